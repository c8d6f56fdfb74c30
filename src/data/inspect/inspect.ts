import { type Finding, findIn, type LengthStatistics, lengthStatistics } from "../findings.ts";
import { type Preflight, preflight } from "../preflight.ts";
import type { PreferenceRow } from "../rows.ts";
import { type TokenizeOptions, tokenizeRows } from "../tokenize.ts";
import type { PairTokenizer } from "../tokenizer.ts";
import { type CharacterFinding, findCharacters } from "./characters.ts";
import type { Contamination } from "./contamination.ts";
import { type Duplicates, findDuplicates } from "./duplicates.ts";
import { SIDES, type Side, systemOf, textOf } from "./row-texts.ts";
import { countScripts, type ScriptShares } from "./scripts.ts";

/** With what a model would read the rows. */
export interface TokenCounting extends TokenizeOptions {
  readonly tokenizer: PairTokenizer;
}

/** What is known about a data set from its texts and, where a tokenizer is at hand, its tokens. */
export interface Inspection {
  rows: number;
  kind: "text" | "messages";
  systemMessages: Finding;
  /** Rows whose prompt has more than one turn besides the system message. */
  multiTurn: Finding;
  /** Lengths, truncation, BOS and EOS in tokens, as a run on these rows would have them; null without a tokenizer. */
  tokens: Preflight | null;
  /** Lengths in characters (UTF-16 units). */
  characters: Record<Side | "pair", LengthStatistics>;
  duplicates: Duplicates;
  identicalAnswers: Finding;
  /** Nothing but white space. */
  emptyPrompts: Finding;
  emptyChosen: Finding;
  emptyRejected: Finding;
  lengthBias: LengthBias;
  unusualCharacters: CharacterFinding[];
  scripts: ScriptShares;
}

/** A data set, its test set, and what they share. */
export interface InspectionReport {
  readonly dataset: string;
  readonly train: Inspection;
  readonly evaluation: Inspection | null;
  /** Null without evaluation data. */
  readonly contamination: Contamination | null;
  /** What deserves a second look, a sentence each. */
  readonly concerns: readonly string[];
}

/** How the lengths of the two answers compare: what differs much in length can be preferred for its length alone. */
export interface LengthBias {
  unit: "tokens" | "characters";
  chosenLonger: number;
  equallyLong: number;
  /** Median over the rows of chosen's length over rejected's; rows with an empty rejected answer are left out. */
  medianRatio: number | null;
  /** How many rows have a ratio of up to each of RATIO_STEPS, and above the last: a histogram on a log scale. */
  histogram: number[];
}

export const RATIO_STEPS: readonly number[] = [1 / 4, 1 / 2, 1 / 1.5, 1 / 1.1, 1.1, 1.5, 2, 4];

/**
 * Looks at every row.
 *
 * @param rows at least one
 * @throws InputError naming the rows that the tokenizer's chat template refuses, or whose prompt fills the longest length
 */
export function inspectRows(rows: readonly PreferenceRow[], counting: TokenCounting | null): Inspection {
  const [first] = rows;
  if (!first) throw new RangeError("internal: an inspection needs at least one row");
  const tokenized = counting && tokenizeRows(rows, counting.tokenizer, counting);
  const isBlank = (side: Side) => (row: PreferenceRow) => textOf(row, side).trim() === "";
  const lengthOf = (row: PreferenceRow, side: Side) => textOf(row, side).length;
  const answerLengths = tokenized
    ? tokenized.pairs.map(({ chosenIds, rejectedIds }): [number, number] => [chosenIds.length, rejectedIds.length])
    : rows.map((row): [number, number] => [lengthOf(row, "chosen"), lengthOf(row, "rejected")]);
  return {
    rows: rows.length,
    kind: first.kind,
    systemMessages: findIn(rows, (row) => systemOf(row) !== ""),
    multiTurn: findIn(rows, hasSeveralTurns),
    tokens: tokenized && preflight(tokenized, counting.tokenizer, counting.maxLength),
    characters: {
      prompt: lengthStatistics(rows.map((row) => lengthOf(row, "prompt"))),
      chosen: lengthStatistics(rows.map((row) => lengthOf(row, "chosen"))),
      rejected: lengthStatistics(rows.map((row) => lengthOf(row, "rejected"))),
      pair: lengthStatistics(rows.map((row) => SIDES.reduce((sum, side) => sum + lengthOf(row, side), 0))),
    },
    duplicates: findDuplicates(rows),
    identicalAnswers: findIn(rows, (row) => textOf(row, "chosen") === textOf(row, "rejected")),
    emptyPrompts: findIn(rows, isBlank("prompt")),
    emptyChosen: findIn(rows, isBlank("chosen")),
    emptyRejected: findIn(rows, isBlank("rejected")),
    lengthBias: lengthBias(answerLengths, tokenized ? "tokens" : "characters"),
    unusualCharacters: findCharacters(rows),
    scripts: countScripts(rows),
  };
}

function hasSeveralTurns(row: PreferenceRow): boolean {
  const prompt = row.kind === "messages" ? row.prompt : (row.dialogue?.prompt ?? []);
  return prompt.filter(({ role }) => role !== "system").length > 1;
}

function lengthBias(lengths: readonly [chosen: number, rejected: number][], unit: LengthBias["unit"]): LengthBias {
  const share = (applies: (chosen: number, rejected: number) => boolean) =>
    lengths.filter(([chosen, rejected]) => applies(chosen, rejected)).length / lengths.length;
  const ratios = lengths.filter(([, rejected]) => rejected > 0).map(([chosen, rejected]) => chosen / rejected);
  const histogram = new Array<number>(RATIO_STEPS.length + 1).fill(0);
  for (const ratio of ratios) {
    const step = RATIO_STEPS.findIndex((most) => ratio <= most);
    histogram[step < 0 ? RATIO_STEPS.length : step]!++;
  }
  return {
    unit,
    chosenLonger: share((chosen, rejected) => chosen > rejected),
    equallyLong: share((chosen, rejected) => chosen === rejected),
    medianRatio: ratios.length === 0 ? null : lengthStatistics(ratios).median,
    histogram,
  };
}
