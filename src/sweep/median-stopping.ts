import type { SweepMetric } from "../config/sweep-section.ts";
import type { RunRecord } from "../train/records.ts";

/** A median of fewer runs says little. */
export const MIN_OTHERS = 3;

/** Epochs are sums of fractions. */
const EPSILON = 1e-9;

/**
 * The median stopping rule: a run ends where the best of its evaluations is strictly worse than the median of the other
 * runs' averages over their evaluations up to the same epoch. Others count as soon as they have come as far, in whatever
 * order or place they run, and also if they were stopped later.
 *
 * Golovin et al. 2017, "Google Vizier: A Service for Black-Box Optimization", section 3.2.2.
 *
 * @param own evaluations of the run so far; the last one is the one at hand
 * @param others evaluations of each other run
 * @returns why the run should end; null where it should go on
 */
export function medianStop(
  own: readonly RunRecord[],
  others: readonly (readonly RunRecord[])[],
  { name, isLowerBetter }: SweepMetric,
): string | null {
  const epoch = own.at(-1)?.epoch;
  if (typeof epoch !== "number") return null;
  const valuesOf = (records: readonly RunRecord[]) =>
    records
      .filter((record) => typeof record.epoch === "number" && record.epoch <= epoch + EPSILON)
      .map((record) => record[name])
      .filter((value) => typeof value === "number");
  const hasComeAsFar = (records: readonly RunRecord[]) =>
    typeof records.at(-1)?.epoch === "number" && records.at(-1)!.epoch! >= epoch - EPSILON;
  const averages = others
    .filter(hasComeAsFar)
    .map(valuesOf)
    .filter((values) => values.length > 0)
    .map((values) => values.reduce((sum, value) => sum + value, 0) / values.length);
  const ownValues = valuesOf(own);
  if (averages.length < MIN_OTHERS || ownValues.length === 0) return null;
  const best = isLowerBetter ? Math.min(...ownValues) : Math.max(...ownValues);
  const median = medianOf(averages);
  const isWorse = isLowerBetter ? best > median : best < median;
  if (!isWorse) return null;
  return `its best ${name} by epoch ${Number(epoch.toFixed(3))}, ${best.toFixed(4)}, is worse than the median of ${averages.length} other runs, ${median.toFixed(4)}`;
}

function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 1 ? sorted[Math.floor(middle)]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
