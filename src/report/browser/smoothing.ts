/**
 * The exponential moving average of values, without the pull of its start: m ← w·m + (1 − w)·x, shown as m / (1 − wᵗ).
 * Gaps stay gaps.
 *
 * @param weight of what came before, from 0 (the values themselves) to below 1
 */
export function smooth(values: readonly (number | null)[], weight: number): (number | null)[] {
  if (weight === 0) return [...values];
  let mean = 0;
  let bias = 1;
  return values.map((value) => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    bias *= weight;
    return mean / (1 - bias);
  });
}
