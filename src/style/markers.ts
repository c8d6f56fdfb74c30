/**
 * Signs of a formal or a relaxed tone that can be counted from words alone, in English. They are no measure of formality:
 * Heylighen and Dewaele's F-score needs parts of speech. Each is null where there is no word.
 */
export interface StyleMarkers {
  /** Share of words that are contractions: "don't", "we're". "Anna's" is none, "it's" is. */
  readonly contractions: number | null;
  /** Share of words that are I, we, me, us, my, our and their like. */
  readonly firstPerson: number | null;
  /** Share of words that are you, your and their like. */
  readonly secondPerson: number | null;
  /** Share of words of more than six letters. */
  readonly longWords: number | null;
  /** Share of words that join sentences in formal prose: "moreover", "consequently". */
  readonly formalConnectives: number | null;
  readonly lettersPerWord: number | null;
  readonly wordsPerSentence: number | null;
  /** Exclamation marks by sentences. */
  readonly exclamations: number | null;
  /** LIX: words per sentence + 100 · share of words over six letters (Björnsson 1968). From about 50 on a text is heavy. */
  readonly lix: number | null;
}

const CONTRACTION = /(?:n't|'(?:re|ve|ll|m|d))$|^(?:it|that|this|there|here|what|who|where|how|he|she|let)'s$/;
const FIRST_PERSON = new Set(["i", "me", "my", "mine", "myself", "we", "us", "our", "ours", "ourselves"]);
const SECOND_PERSON = new Set(["you", "your", "yours", "yourself", "yourselves"]);
const FORMAL_CONNECTIVES = new Set([
  "accordingly",
  "additionally",
  "consequently",
  "furthermore",
  "hence",
  "hereby",
  "moreover",
  "nevertheless",
  "nonetheless",
  "notwithstanding",
  "subsequently",
  "therefore",
  "thereby",
  "thus",
  "whereas",
  "whereby",
]);
/** Björnsson's, who counts letters. */
const LONG_LETTERS = 6;

/**
 * @param words all words of the texts, as `wordsOf` gives them
 * @param sentences how many the texts have together
 */
export function markersOf(texts: readonly string[], words: readonly string[], sentences: number): StyleMarkers {
  const share = (isOne: (word: string) => boolean) => ratio(words.filter(isOne).length, words.length);
  // "Don't", wherever its apostrophe stands, is told by its second half.
  const pronoun = (word: string) => word.split("'")[0]!;
  const longWords = share((word) => lettersOf(word) > LONG_LETTERS);
  const wordsPerSentence = ratio(words.length, sentences);
  const letters = words.reduce((sum, word) => sum + lettersOf(word), 0);
  const exclamations = texts.reduce((sum, text) => sum + (text.match(/[!！]/g)?.length ?? 0), 0);
  return {
    contractions: share((word) => CONTRACTION.test(word)),
    firstPerson: share((word) => FIRST_PERSON.has(pronoun(word))),
    secondPerson: share((word) => SECOND_PERSON.has(pronoun(word))),
    longWords,
    formalConnectives: share((word) => FORMAL_CONNECTIVES.has(word)),
    lettersPerWord: ratio(letters, words.length),
    wordsPerSentence,
    exclamations: ratio(exclamations, sentences),
    lix: longWords === null || wordsPerSentence === null ? null : wordsPerSentence + 100 * longWords,
  };
}

function lettersOf(word: string): number {
  return word.match(/\p{L}/gu)?.length ?? 0;
}

function ratio(count: number, of: number): number | null {
  return of === 0 ? null : count / of;
}
