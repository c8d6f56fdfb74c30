/**
 * Jensen–Shannon distance of two distributions over the same words: the square root of the divergence
 * ½ KL(p ‖ m) + ½ KL(q ‖ m) with m = ½ (p + q), in bits (Lin 1991, equation 4.1, doi 10.1109/18.61115), as
 * `scipy.spatial.distance.jensenshannon` with base 2. 0 where they are the same, 1 where they share no word. It is a metric
 * (Endres and Schindelin 2003).
 *
 * @param first (vocabulary) counts of each word, or any multiple of them
 * @param second (vocabulary) of the same words
 * @returns null where one of them has no word, and so no distribution
 */
export function jensenShannonDistance(first: ArrayLike<number>, second: ArrayLike<number>): number | null {
  if (first.length !== second.length) throw new RangeError("internal: counts of different vocabularies");
  const [firstTotal, secondTotal] = [sum(first), sum(second)];
  if (firstTotal === 0 || secondTotal === 0) return null;
  let divergence = 0;
  for (let word = 0; word < first.length; word++) {
    const p = first[word]! / firstTotal;
    const q = second[word]! / secondTotal;
    const m = (p + q) / 2;
    if (p > 0) divergence += (p * Math.log2(p / m)) / 2;
    if (q > 0) divergence += (q * Math.log2(q / m)) / 2;
  }
  return Math.sqrt(Math.min(1, Math.max(0, divergence))); // Rounding may leave the range by a little.
}

function sum(values: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i]!;
  return total;
}
