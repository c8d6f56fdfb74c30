import { type Finding, findIn } from "../findings.ts";
import { placeOf } from "../problems.ts";
import type { PreferenceRow } from "../rows.ts";
import { hashOf } from "./duplicates.ts";
import { exactKey, SIDES, textOf } from "./row-texts.ts";

/** Words of an n-gram: as GPT-3's authors compared their test sets with their training data (Brown et al. 2020, appendix C). */
export const NGRAM_WORDS = 13;
/** From this share of its words in shared n-grams on, a row counts as contained ("dirty" in Llama 2's appendix A.6). */
export const CONTAINED_SHARE = 0.8;
const SHOWN_EXAMPLES = 10;

/** Rows of the test set that are in the training set too, in whole or in part. */
export interface Contamination {
  testRows: number;
  rows: Finding;
  prompts: Finding;
  /** Prompts that are equal but for case, punctuation, white space and Unicode forms; the equal ones included. */
  normalizedPrompts: Finding;
  /** Prompt and chosen answer share a run of NGRAM_WORDS words with some training row. */
  sharedNgrams: Finding;
  /** CONTAINED_SHARE of the words of prompt and chosen answer lie in such runs. */
  contained: Finding;
  /** The rows of which most is in the training set. */
  examples: { test: string; train: string; share: number }[];
}

/** Compares every test row with every training row. What is kept of the texts is hashes, most of them of the test set's. */
export function findContamination(train: readonly PreferenceRow[], test: readonly PreferenceRow[]): Contamination {
  const ofTrain = (key: (row: PreferenceRow) => string) => new Set(train.map((row) => hashOf(key(row))));
  const inTrain = (key: (row: PreferenceRow) => string): Finding => {
    const keys = ofTrain(key);
    return findIn(test, (row) => keys.has(hashOf(key(row))));
  };
  const overlaps = ngramOverlaps(train, test);
  const examples = overlaps
    .map((overlap, i) => ({ ...overlap, i }))
    .filter(({ share }) => share > 0)
    .sort((a, b) => b.share - a.share || a.i - b.i)
    .slice(0, SHOWN_EXAMPLES);
  return {
    testRows: test.length,
    rows: inTrain((row) => SIDES.map((side) => `${exactKey(row, side)}\0`).join("")),
    prompts: inTrain((row) => exactKey(row, "prompt")),
    normalizedPrompts: inTrain((row) => normalized(textOf(row, "prompt"))),
    sharedNgrams: findIn(test, (_, i) => overlaps[i]!.share > 0),
    contained: findIn(test, (_, i) => overlaps[i]!.share >= CONTAINED_SHARE),
    examples: examples.map(({ i, trainRow, share }) => ({
      test: placeOf(test[i]!.source),
      train: placeOf(train[trainRow]!.source),
      share,
    })),
  };
}

function normalized(text: string): string {
  return wordsOf(text).join(" ");
}

/** Words in lower case; of scripts without spaces each character. */
function wordsOf(text: string): string[] {
  return text.normalize("NFKC").toLowerCase().match(WORD) ?? [];
}
const NO_SPACES =
  "\\p{Script=Han}\\p{Script=Hiragana}\\p{Script=Katakana}\\p{Script=Thai}\\p{Script=Lao}\\p{Script=Khmer}";
const WORD = new RegExp(`[${NO_SPACES}]\\p{M}*|(?:(?![${NO_SPACES}])[\\p{L}\\p{M}\\p{N}])+`, "gu");

interface Overlap {
  /** Share of the words that lie in an n-gram which is in the training set. */
  share: number;
  /** The first training row that has one. */
  trainRow: number;
}

function ngramOverlaps(train: readonly PreferenceRow[], test: readonly PreferenceRow[]): Overlap[] {
  const NOT_FOUND = -1;
  const compared = (row: PreferenceRow) => wordsOf(`${textOf(row, "prompt")}\n${textOf(row, "chosen")}`);
  const firstTrainRow = new Map<number, number>();
  for (const row of test) for (const key of ngramKeys(compared(row))) firstTrainRow.set(key, NOT_FOUND);
  for (const [i, row] of train.entries()) {
    for (const key of ngramKeys(compared(row))) if (firstTrainRow.get(key) === NOT_FOUND) firstTrainRow.set(key, i);
  }
  return test.map((row) => {
    const words = compared(row);
    let covered = 0;
    let coveredTo = 0;
    let trainRow = NOT_FOUND;
    for (const [start, key] of ngramKeys(words).entries()) {
      const found = firstTrainRow.get(key)!;
      if (found === NOT_FOUND) continue;
      if (trainRow === NOT_FOUND) trainRow = found;
      covered += start + NGRAM_WORDS - Math.max(start, coveredTo);
      coveredTo = start + NGRAM_WORDS;
    }
    return { share: words.length === 0 ? 0 : covered / words.length, trainRow };
  });
}

/** Two odd numbers whose powers modulo 2^32 are far apart: 53 bits of the two hashes together make a key. */
const BASES = [0x01000193, 0x9e3779b1] as const;
const OLDEST = BASES.map((base) => {
  let power = 1;
  for (let i = 1; i < NGRAM_WORDS; i++) power = Math.imul(power, base);
  return power;
}) as [number, number];

/** A hash of 53 bits of each run of NGRAM_WORDS words, by its first word; none where there are fewer words. */
function ngramKeys(words: readonly string[]): number[] {
  const hashes = words.map(hashWord);
  const keys: number[] = [];
  let [a, b] = [0, 0];
  for (const [i, hash] of hashes.entries()) {
    const oldest = i >= NGRAM_WORDS ? hashes[i - NGRAM_WORDS]! : 0;
    a = (Math.imul(a - Math.imul(oldest, OLDEST[0]), BASES[0]) + hash) | 0;
    b = (Math.imul(b - Math.imul(oldest, OLDEST[1]), BASES[1]) + hash) | 0;
    if (i >= NGRAM_WORDS - 1) keys.push((a >>> 0) * 2 ** 21 + (b >>> 11));
  }
  return keys;
}

/** FNV-1a over UTF-16 units, with a last mix. */
function hashWord(word: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < word.length; i++) hash = Math.imul(hash ^ word.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return hash ^ (hash >>> 13);
}
