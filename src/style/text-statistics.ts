import { markersOf, type StyleMarkers } from "./markers.ts";
import { quantile } from "./quantile.ts";
import { countSentences, countWords, wordsOf } from "./words.ts";

/** How a size is spread over texts; null where there is none. */
export interface Spread {
  readonly mean: number | null;
  readonly p10: number | null;
  readonly median: number | null;
  readonly p90: number | null;
  readonly max: number | null;
}

export interface TextStatistics {
  readonly texts: number;
  /** Texts without a word. */
  readonly empty: number;
  /** Texts that another text repeats, the first of each not counted. */
  readonly repeated: number;
  /** Of all texts. */
  readonly totalWords: number;
  readonly words: Spread;
  readonly sentences: Spread;
  /** Code points. */
  readonly characters: Spread;
  /** Different words by words. It falls as texts grow: compare it between groups of about as many words. */
  readonly typeTokenRatio: number | null;
  /** The mean of that ratio over every {@link WINDOW_WORDS} words in a row: it does not depend on how long the texts are. */
  readonly movingTypeTokenRatio: number | null;
  readonly markers: StyleMarkers;
}

/** Words of a window of the moving-average type-token ratio. */
export const WINDOW_WORDS = 50;

/** Counts that say how a group of texts is written. Of texts without a word the shares are null. */
export function describeTexts(texts: readonly string[]): TextStatistics {
  const words = texts.map(wordsOf);
  const sentences = texts.map(countSentences);
  const all = words.flat();
  return {
    texts: texts.length,
    empty: words.filter((found) => found.length === 0).length,
    repeated: texts.length - new Set(texts).size,
    totalWords: all.length,
    words: spreadOf(words.map((found) => found.length)),
    sentences: spreadOf(sentences),
    characters: spreadOf(texts.map((text) => Array.from(text).length)),
    typeTokenRatio: all.length === 0 ? null : countWords(words).size / all.length,
    movingTypeTokenRatio: movingTypeTokenRatio(words),
    markers: markersOf(
      texts,
      all,
      sentences.reduce((sum, count) => sum + count, 0),
    ),
  };
}

function spreadOf(sizes: readonly number[]): Spread {
  if (sizes.length === 0) return { mean: null, p10: null, median: null, p90: null, max: null };
  return {
    mean: sizes.reduce((sum, size) => sum + size, 0) / sizes.length,
    p10: quantile(sizes, 0.1),
    median: quantile(sizes, 0.5),
    p90: quantile(sizes, 0.9),
    max: quantile(sizes, 1),
  };
}

/** MATTR of Covington and McFall (2010), its windows within texts. Null where no text is as long as one. */
function movingTypeTokenRatio(texts: readonly (readonly string[])[]): number | null {
  let windows = 0;
  let types = 0;
  for (const words of texts) {
    const inWindow = new Map<string, number>();
    for (const [i, word] of words.entries()) {
      inWindow.set(word, (inWindow.get(word) ?? 0) + 1);
      const left = words[i - WINDOW_WORDS];
      if (left !== undefined) {
        const count = inWindow.get(left)! - 1;
        if (count === 0) inWindow.delete(left);
        else inWindow.set(left, count);
      }
      if (i < WINDOW_WORDS - 1) continue;
      windows++;
      types += inWindow.size;
    }
  }
  return windows === 0 ? null : types / (windows * WINDOW_WORDS);
}
