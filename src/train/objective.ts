import { ldWeights } from "./loss/ld-weights.ts";
import { type LossSettings, preferenceLoss } from "./loss/preference-loss.ts";
import { couplesPairs } from "./loss/table.ts";
import type { PreferenceBatch } from "./loss/types.ts";
import type { PairScore } from "./scores.ts";

/** The loss of a run and how tokens are weighted before they are summed. */
export interface Objective extends LossSettings {
  /** LD-DPO's weight of the tokens past the shorter answer's length; 1 for all alike. */
  readonly ldAlpha: number;
}

/** The reference's log-probabilities of every completion token of a pair, in nats. */
export interface ReferenceLogps {
  readonly chosen: Float64Array;
  readonly rejected: Float64Array;
}

/** Summed log-probabilities of a pair, weighted by LD-DPO where that is on. */
export interface PairLogps {
  readonly chosen: number;
  readonly rejected: number;
  readonly refChosen: number;
  readonly refRejected: number;
}

/** What the loss asks of each completion token: d loss / d log-probability. */
export interface TokenGradients {
  readonly chosen: Float64Array;
  readonly rejected: Float64Array;
}

export interface ObjectiveResult {
  /** The loss of the pairs as one micro-batch: their mean, or what the loss defines where it couples them. */
  readonly loss: number;
  readonly logps: readonly PairLogps[];
  readonly gradients: readonly TokenGradients[];
}

/** Pairs that must be computed together: a pair alone, or a whole micro-batch where the loss couples its pairs. */
export function pairsBelongTogether(objective: Objective): boolean {
  return couplesPairs(objective.lossTypes);
}

/** The loss of pairs taken as one micro-batch, and its gradient with respect to every completion token. */
export function evaluateObjective(
  scores: readonly PairScore[],
  references: readonly ReferenceLogps[],
  objective: Objective,
): ObjectiveResult {
  const weights = scores.map(({ chosen, rejected }) => {
    const [chosenLength, rejectedLength] = [chosen.tokenLogps.length, rejected.tokenLogps.length];
    return {
      chosen: ldWeights(chosenLength, rejectedLength, objective.ldAlpha),
      rejected: ldWeights(rejectedLength, chosenLength, objective.ldAlpha),
    };
  });
  const logps = scores.map(({ chosen, rejected }, i): PairLogps => {
    const weight = weights[i]!;
    const reference = references[i]!;
    return {
      chosen: dot(chosen.tokenLogps, weight.chosen),
      rejected: dot(rejected.tokenLogps, weight.rejected),
      refChosen: dot(reference.chosen, weight.chosen),
      refRejected: dot(reference.rejected, weight.rejected),
    };
  });
  const batch: PreferenceBatch = {
    chosenLogps: Float64Array.from(logps, (pair) => pair.chosen),
    rejectedLogps: Float64Array.from(logps, (pair) => pair.rejected),
    refChosenLogps: Float64Array.from(logps, (pair) => pair.refChosen),
    refRejectedLogps: Float64Array.from(logps, (pair) => pair.refRejected),
    chosenLengths: Float64Array.from(scores, (pair) => pair.chosen.tokenLogps.length),
    rejectedLengths: Float64Array.from(scores, (pair) => pair.rejected.tokenLogps.length),
    chosenTokenLogps: Float64Array.from(scores, (pair) => total(pair.chosen.tokenLogps)),
  };
  const { loss, gradChosen, gradRejected, gradChosenTokens } = preferenceLoss(batch, objective);
  const gradients = weights.map(
    (weight, i): TokenGradients => ({
      chosen: weight.chosen.map((w) => w * gradChosen[i]! + gradChosenTokens[i]!),
      rejected: weight.rejected.map((w) => w * gradRejected[i]!),
    }),
  );
  return { loss, logps, gradients };
}

export function total(values: Float64Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}

function dot(values: Float64Array, weights: Float64Array): number {
  let sum = 0;
  for (const [i, value] of values.entries()) sum += value * weights[i]!;
  return sum;
}
