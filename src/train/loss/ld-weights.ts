/**
 * LD-DPO: the weight of each completion token of one answer. Tokens up to the shorter answer's length count fully, those
 * past it by α (`ld_alpha`, from 0 to 1): Liu et al. 2024, arXiv:2409.06411. The same weights go into the sums of the
 * policy and of the reference; `sft`, the token metrics and the lengths are not weighted.
 *
 * @param length completion tokens of this answer
 * @param otherLength completion tokens of the pair's other answer
 * @returns (length) weights, in the order of the tokens
 */
export function ldWeights(length: number, otherLength: number, ldAlpha: number): Float64Array {
  if (!(ldAlpha >= 0 && ldAlpha <= 1)) throw new Error(`internal: ld_alpha must be from 0 to 1, got ${ldAlpha}`);
  return new Float64Array(length).fill(1).fill(ldAlpha, Math.min(length, otherLength));
}
