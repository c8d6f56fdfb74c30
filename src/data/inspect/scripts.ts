import { placeOf } from "../problems.ts";
import type { PreferenceRow } from "../rows.ts";
import { SIDES, type Side, textOf } from "./row-texts.ts";

/** The scripts that are told apart; other letters are counted as "other". */
const SCRIPTS = [
  "Latin",
  "Cyrillic",
  "Greek",
  "Arabic",
  "Hebrew",
  "Han",
  "Hiragana",
  "Katakana",
  "Hangul",
  "Devanagari",
  "Bengali",
  "Tamil",
  "Telugu",
  "Gujarati",
  "Gurmukhi",
  "Kannada",
  "Malayalam",
  "Sinhala",
  "Thai",
  "Lao",
  "Khmer",
  "Myanmar",
  "Tibetan",
  "Armenian",
  "Georgian",
  "Ethiopic",
] as const;
const EXPRESSIONS = SCRIPTS.map((name) => new RegExp(`\\p{Script=${name}}`, "u"));
const OTHER = SCRIPTS.length;
const NO_LETTER = -1;
const LATIN = 0;
/** Letters from which on a text's main script means something. */
const MIN_LETTERS = 20;

export interface ScriptShares {
  /** Share of the letters by script, the most common first. */
  shares: Record<Side, { script: string; share: number }[]>;
  /** Rows whose two answers are mostly in different scripts. */
  answersDiffer: { rows: number; first: string | null };
}

/** Which scripts the letters of the rows belong to. */
export function countScripts(rows: readonly PreferenceRow[]): ScriptShares {
  const totals = Object.fromEntries(SIDES.map((side) => [side, new Float64Array(OTHER + 1)])) as Record<
    Side,
    Float64Array
  >;
  const answersDiffer: ScriptShares["answersDiffer"] = { rows: 0, first: null };
  for (const row of rows) {
    const main = SIDES.map((side) => {
      const counts = countLetters(textOf(row, side));
      for (const [script, count] of counts.entries()) totals[side][script]! += count;
      return mainScript(counts);
    });
    const [, chosen, rejected] = main;
    if (chosen === undefined || rejected === undefined || chosen === rejected) continue;
    answersDiffer.rows++;
    answersDiffer.first ??= placeOf(row.source);
  }
  const shares = Object.fromEntries(SIDES.map((side) => [side, sharesOf(totals[side])])) as ScriptShares["shares"];
  return { shares, answersDiffer };
}

function countLetters(text: string): Float64Array {
  const counts = new Float64Array(OTHER + 1);
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x80) {
      const lower = code | 0x20;
      if (lower >= 0x61 && lower <= 0x7a) counts[LATIN]!++;
      continue;
    }
    const point = text.codePointAt(i)!;
    if (point > 0xffff) i++;
    const script = scriptOf(point);
    if (script !== NO_LETTER) counts[script]!++;
  }
  return counts;
}

const known = new Map<number, number>();

function scriptOf(point: number): number {
  const cached = known.get(point);
  if (cached !== undefined) return cached;
  const character = String.fromCodePoint(point);
  const index = EXPRESSIONS.findIndex((expression) => expression.test(character));
  const script = !/\p{L}/u.test(character) ? NO_LETTER : index < 0 ? OTHER : index;
  known.set(point, script);
  return script;
}

/** Japanese is written in three scripts at once, so these count as one here. */
const JAPANESE = new Set(["Han", "Hiragana", "Katakana"].map((name) => (SCRIPTS as readonly string[]).indexOf(name)));

function mainScript(counts: Float64Array): number | undefined {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total < MIN_LETTERS) return undefined;
  const main = counts.indexOf(Math.max(...counts));
  return JAPANESE.has(main) ? Math.min(...JAPANESE) : main;
}

function sharesOf(totals: Float64Array): { script: string; share: number }[] {
  const total = totals.reduce((sum, count) => sum + count, 0);
  return [...totals]
    .map((count, i) => ({ script: SCRIPTS[i] ?? "other", share: total === 0 ? 0 : count / total }))
    .filter(({ share }) => share > 0)
    .sort((a, b) => b.share - a.share);
}
