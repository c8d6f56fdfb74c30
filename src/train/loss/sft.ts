import type { LossResult, PreferenceBatch } from "./types.ts";

/**
 * Mean cross-entropy over all chosen completion tokens of the micro-batch, the generation loss of mixed preference
 * optimization (MPO): Wang et al. 2024, arXiv:2411.10442. A token counts the same in a long and in a short answer, so
 * the total of the lengths couples the pairs.
 */
export function sftLoss(batch: PreferenceBatch): LossResult {
  const pairCount = batch.chosenTokenLogps.length;
  const tokenCount = batch.chosenLengths.reduce((sum, length) => sum + length, 0);
  return {
    loss: -batch.chosenTokenLogps.reduce((sum, logp) => sum + logp, 0) / tokenCount,
    gradChosen: new Float64Array(pairCount),
    gradRejected: new Float64Array(pairCount),
    gradChosenTokens: new Float64Array(pairCount).fill(-1 / tokenCount),
  };
}
