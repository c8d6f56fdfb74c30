/** A mean, and how sure it is. */
export interface Estimate {
  readonly mean: number;
  readonly count: number;
  /** Mean ± 1.96 standard errors, null for a single value. It is too narrow for a handful of them. */
  readonly interval: readonly [low: number, high: number] | null;
}

/** The mean of values and its 95% interval; null where there is none. */
export function estimateMean(values: readonly number[]): Estimate | null {
  const count = values.length;
  if (count === 0) return null;
  const mean = values.reduce((sum, value) => sum + value, 0) / count;
  if (count === 1) return { mean, count, interval: null };
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (count - 1);
  const margin = 1.96 * Math.sqrt(variance / count);
  return { mean, count, interval: [mean - margin, mean + margin] };
}

/** 95% interval of a share that was counted in so many cases (Wilson 1927), also for a share of 0 or 1. */
export function shareInterval(share: number, count: number): readonly [low: number, high: number] {
  const z2 = 1.96 ** 2;
  const center = (share + z2 / (2 * count)) / (1 + z2 / count);
  const margin = (Math.sqrt((share * (1 - share)) / count + z2 / (4 * count ** 2)) * 1.96) / (1 + z2 / count);
  return [Math.max(0, center - margin), Math.min(1, center + margin)];
}
