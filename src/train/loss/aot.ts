/**
 * Alignment via optimal transport: quantiles of the micro-batch are compared, not the two answers of a pair.
 * Melnyk et al. 2024, arXiv:2406.05882, Section 3. In one dimension the optimal transport plan is sorting; the loss of
 * the k-th smallest values is the (smoothed) logistic one of DPO.
 *
 * Sorting is stable. Where values tie any assignment is a subgradient; the stable one gives the earlier pair the smaller
 * partner, which is what torch.sort does on the CPU.
 */

import { smoothedLogistic } from "./margin.ts";
import type { LossParameters, LossResult, PreferenceBatch } from "./types.ts";

/** `aot`: log π(chosen) − log π(rejected) sorted, against the same of the reference sorted. */
export function aotLoss(batch: PreferenceBatch, parameters: LossParameters): LossResult {
  const policy = difference(batch.chosenLogps, batch.rejectedLogps);
  const reference = difference(batch.refChosenLogps, batch.refRejectedLogps);
  const { loss, gradUpper } = quantileLoss(policy, reference, parameters);
  return {
    loss,
    gradChosen: gradUpper,
    gradRejected: gradUpper.map((gradient) => -gradient),
    gradChosenTokens: new Float64Array(policy.length),
  };
}

/** `aot_unpaired`: the chosen log-ratios sorted, against the rejected log-ratios sorted. */
export function aotUnpairedLoss(batch: PreferenceBatch, parameters: LossParameters): LossResult {
  const chosen = difference(batch.chosenLogps, batch.refChosenLogps);
  const rejected = difference(batch.rejectedLogps, batch.refRejectedLogps);
  const { loss, gradUpper, gradLower } = quantileLoss(chosen, rejected, parameters);
  return { loss, gradChosen: gradUpper, gradRejected: gradLower, gradChosenTokens: new Float64Array(chosen.length) };
}

/** The mean logistic loss of β(k-th smallest upper − k-th smallest lower), with gradients in the unsorted order. */
function quantileLoss(
  upper: Float64Array,
  lower: Float64Array,
  { beta, labelSmoothing }: LossParameters,
): { loss: number; gradUpper: Float64Array; gradLower: Float64Array } {
  const pairCount = upper.length;
  const upperOrder = sortedIndices(upper);
  const lowerOrder = sortedIndices(lower);
  const gradUpper = new Float64Array(pairCount);
  const gradLower = new Float64Array(pairCount);
  let sum = 0;
  for (const [rank, upperIndex] of upperOrder.entries()) {
    const lowerIndex = lowerOrder[rank]!;
    const { value, slope } = smoothedLogistic(beta * (upper[upperIndex]! - lower[lowerIndex]!), labelSmoothing);
    sum += value;
    gradUpper[upperIndex] = (beta * slope) / pairCount;
    gradLower[lowerIndex] = (-beta * slope) / pairCount;
  }
  return { loss: sum / pairCount, gradUpper, gradLower };
}

function difference(minuend: Float64Array, subtrahend: Float64Array): Float64Array {
  return minuend.map((value, index) => value - subtrahend[index]!);
}

function sortedIndices(values: Float64Array): number[] {
  return Array.from(values.keys()).sort((i, j) => Number(values[i]! > values[j]!) - Number(values[i]! < values[j]!));
}
