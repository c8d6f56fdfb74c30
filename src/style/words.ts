/** How often each word stands in some texts. */
export type WordCounts = ReadonlyMap<string, number>;

const WORDS = new Intl.Segmenter("en", { granularity: "word" });
const SENTENCES = new Intl.Segmenter("en", { granularity: "sentence" });
const APOSTROPHES = /[\u2018\u2019\u02bc\uff07]/g;

/**
 * The words of a text in their order, in small letters: what Unicode's word boundaries (UAX #29, with dictionaries for
 * scripts that are written without spaces) enclose and holds a letter or a digit. Compatibility forms are one word (NFKC),
 * and so are both apostrophes: "don’t" is "don't". Punctuation and emoji are no words.
 */
export function wordsOf(text: string): string[] {
  const plain = text.normalize("NFKC").replace(APOSTROPHES, "'").toLowerCase();
  return Array.from(WORDS.segment(plain)).flatMap(({ segment, isWordLike }) => (isWordLike ? [segment] : []));
}

/** The number of sentences with a word in them, by Unicode's sentence boundaries. A line break ends one too. */
export function countSentences(text: string): number {
  return text
    .split(/[\r\n]+/)
    .flatMap((line) => Array.from(SENTENCES.segment(line)))
    .filter(({ segment }) => /[\p{L}\p{N}]/u.test(segment)).length;
}

/** Adds up the words of several texts. */
export function countWords(texts: Iterable<readonly string[]>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const words of texts) for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
  return counts;
}

export function totalCount(counts: WordCounts): number {
  let total = 0;
  for (const count of counts.values()) total += count;
  return total;
}
