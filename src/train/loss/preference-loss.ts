import { F_DIVERGENCE_LOSS_TYPES, type FDivergenceType, type LossType } from "../../config/losses.ts";
import { fDivergenceScore } from "./f-divergence.ts";
import { weigh } from "./logistic.ts";
import { LOSSES } from "./table.ts";
import type { LossParameters, LossResult, PairLoss, PreferenceBatch } from "./types.ts";

/** Everything that defines the loss of a run but for `ld_alpha`, which weights tokens before they are summed. */
export type LossSettings = LossParameters & {
  lossTypes: readonly LossType[];
  /** One weight for each of `lossTypes`. */
  lossWeights: readonly number[];
  /** Other than `reverse_kl` only with losses of `F_DIVERGENCE_LOSS_TYPES`. */
  fDivergenceType: FDivergenceType;
  /** α of `alpha_divergence`. */
  fAlphaDivergenceCoef: number;
};

/**
 * The loss of one micro-batch and its gradient with respect to every answer's log-probability, in float64.
 *
 * A result that is not finite means that a log-probability was not, or that the loss itself overflows float64; it is
 * returned as it is for the caller to stop on.
 *
 * @throws Error (internal) on a combination of settings that is not defined, on a batch whose arrays differ in length
 * and on an empty answer
 */
export function preferenceLoss(batch: PreferenceBatch, settings: LossSettings): LossResult {
  requireDefined(settings);
  const pairCount = requirePairs(batch);
  const total = zeroResult(pairCount);
  for (const [index, type] of settings.lossTypes.entries()) {
    const entry = LOSSES[type];
    const result = "batch" in entry ? entry.batch(batch, settings) : meanOverPairs(entry.pair, batch, settings);
    addWeighted(total, result, settings.lossWeights[index]!);
  }
  return total;
}

/** The mean of a per-pair loss, its gradients carried from the scores to the log-probabilities. */
function meanOverPairs(pairLoss: PairLoss, batch: PreferenceBatch, settings: LossSettings): LossResult {
  const pairCount = batch.chosenLogps.length;
  const result = zeroResult(pairCount);
  const score = (logratio: number) =>
    fDivergenceScore(logratio, settings.fDivergenceType, settings.fAlphaDivergenceCoef);
  let sum = 0;
  for (let i = 0; i < pairCount; i++) {
    const chosen = score(batch.chosenLogps[i]! - batch.refChosenLogps[i]!);
    const rejected = score(batch.rejectedLogps[i]! - batch.refRejectedLogps[i]!);
    const pair = {
      chosenScore: chosen.score,
      rejectedScore: rejected.score,
      chosenLength: batch.chosenLengths[i]!,
      rejectedLength: batch.rejectedLengths[i]!,
    };
    const { value, gradChosen, gradRejected } = pairLoss(pair, settings);
    sum += value;
    result.gradChosen[i] = weigh(gradChosen, chosen.slope) / pairCount;
    result.gradRejected[i] = weigh(gradRejected, rejected.slope) / pairCount;
  }
  result.loss = sum / pairCount;
  return result;
}

function addWeighted(total: LossResult, addend: LossResult, weight: number): void {
  total.loss += weight * addend.loss;
  for (const name of ["gradChosen", "gradRejected", "gradChosenTokens"] as const) {
    for (const [i, gradient] of addend[name].entries()) total[name][i]! += weight * gradient;
  }
}

function zeroResult(pairCount: number): LossResult {
  return {
    loss: 0,
    gradChosen: new Float64Array(pairCount),
    gradRejected: new Float64Array(pairCount),
    gradChosenTokens: new Float64Array(pairCount),
  };
}

function requireDefined({ lossTypes, lossWeights, fDivergenceType }: LossSettings): void {
  if (lossWeights.length !== lossTypes.length) {
    throw new Error(`internal: ${lossTypes.length} losses need as many weights, got ${lossWeights.length}`);
  }
  const other = lossTypes.find((type) => !F_DIVERGENCE_LOSS_TYPES.includes(type));
  if (fDivergenceType !== "reverse_kl" && other !== undefined) {
    throw new Error(`internal: ${other} is not defined for ${fDivergenceType}`);
  }
}

/** The number of pairs, after making sure that the batch is one. */
function requirePairs(batch: PreferenceBatch): number {
  const pairCount = batch.chosenLogps.length;
  if (pairCount === 0) throw new Error("internal: a micro-batch needs at least one pair");
  for (const [name, values] of Object.entries(batch)) {
    if (values.length !== pairCount) {
      throw new Error(`internal: ${name} must have ${pairCount} values like chosenLogps, got ${values.length}`);
    }
  }
  for (const name of ["chosenLengths", "rejectedLengths"] as const) {
    const empty = batch[name].findIndex((length) => !(Number.isInteger(length) && length >= 1));
    if (empty >= 0)
      throw new Error(`internal: ${name}[${empty}] must be a whole number above 0, got ${batch[name][empty]}`);
  }
  return pairCount;
}
