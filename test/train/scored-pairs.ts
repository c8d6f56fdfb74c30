import type { PairLogps, ReferenceLogps } from "../../src/train/objective.ts";
import type { AnswerScore, PairScore } from "../../src/train/scores.ts";

/** An answer with these log-probabilities; the rest as it is given, else 0. */
export function answer(tokenLogps: readonly number[], rest: Partial<AnswerScore> = {}): AnswerScore {
  return { tokenLogps: Float64Array.from(tokenLogps), entropySum: 0, meanLogitSum: 0, hits: 0, ...rest };
}

export function references(chosen: readonly number[], rejected: readonly number[]): ReferenceLogps {
  return { chosen: Float64Array.from(chosen), rejected: Float64Array.from(rejected) };
}

/** The summed log-probabilities of a pair under policy and reference. */
export function pairLogps({ chosen, rejected }: PairScore, reference: ReferenceLogps): PairLogps {
  const sum = (values: Float64Array) => values.reduce((total, value) => total + value, 0);
  return {
    chosen: sum(chosen.tokenLogps),
    rejected: sum(rejected.tokenLogps),
    refChosen: sum(reference.chosen),
    refRejected: sum(reference.rejected),
  };
}
