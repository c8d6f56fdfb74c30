import { readFileSync } from "node:fs";
import type { LossSettings } from "../../../src/train/loss/preference-loss.ts";
import type { PreferenceBatch } from "../../../src/train/loss/types.ts";

/** The objects of a .jsonl file beside this one, without the first, which says how the file was made. */
export function readGolden(name: string): unknown[] {
  const lines = readFileSync(new URL(name, import.meta.url), "utf8")
    .trimEnd()
    .split("\n");
  return lines.slice(1).map((line): unknown => JSON.parse(line));
}

/** TRL's defaults with changes. */
export function lossSettings(changes: Partial<LossSettings>): LossSettings {
  return {
    beta: 0.1,
    labelSmoothing: 0,
    discopopTau: 0.05,
    lossTypes: ["sigmoid"],
    lossWeights: [1],
    fDivergenceType: "reverse_kl",
    fAlphaDivergenceCoef: 0.5,
    ...changes,
  };
}

/** A micro-batch with the given log-ratios (chosen, rejected) over references of −20 and −30. */
export function batchOf(logratios: [number, number][], lengths?: [number, number][]): PreferenceBatch {
  const chosen = logratios.map(([logratio]) => logratio);
  const rejected = logratios.map(([, logratio]) => logratio);
  return {
    chosenLogps: Float64Array.from(chosen, (logratio) => logratio - 20),
    rejectedLogps: Float64Array.from(rejected, (logratio) => logratio - 30),
    refChosenLogps: new Float64Array(chosen.length).fill(-20),
    refRejectedLogps: new Float64Array(chosen.length).fill(-30),
    chosenLengths: Float64Array.from(chosen, (_, i) => lengths?.[i]?.[0] ?? 4),
    rejectedLengths: Float64Array.from(chosen, (_, i) => lengths?.[i]?.[1] ?? 4),
    chosenTokenLogps: Float64Array.from(chosen, (logratio) => logratio - 20),
  };
}

/** A single pair whose log-ratios are exactly the given ones: the references are 0. */
export function pairOf(chosenLogratio: number, rejectedLogratio: number, lengths: [number, number] = [4, 4]) {
  const batch = batchOf([[chosenLogratio, rejectedLogratio]], [lengths]);
  batch.chosenLogps[0] = chosenLogratio;
  batch.rejectedLogps[0] = rejectedLogratio;
  batch.refChosenLogps[0] = 0;
  batch.refRejectedLogps[0] = 0;
  return batch;
}

/** |actual − expected| in units of the allowed error: relative · |expected| + absolute. At most 1 is close enough. */
export function excess(actual: number, expected: number, relative: number, absolute: number): number {
  if (Object.is(actual, expected) || actual === expected) return 0;
  const error = Math.abs(actual - expected) / (relative * Math.abs(expected) + absolute);
  return Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
}
