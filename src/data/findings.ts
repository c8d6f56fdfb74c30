import { placeOf, type RowSource } from "./problems.ts";

/** How many rows something was found in, and where first. */
export interface Finding {
  rows: number;
  first: string | null;
}

/** Percentiles by nearest rank, so each is the length of some row. */
export interface LengthStatistics {
  min: number;
  median: number;
  p90: number;
  p99: number;
  max: number;
  total: number;
}

/** The rows that something applies to. */
export function findIn<T extends { source: RowSource }>(
  rows: readonly T[],
  applies: (row: T, index: number) => boolean,
): Finding {
  const finding: Finding = { rows: 0, first: null };
  for (const [i, row] of rows.entries()) {
    if (!applies(row, i)) continue;
    finding.rows++;
    finding.first ??= placeOf(row.source);
  }
  return finding;
}

/** @param lengths at least one */
export function lengthStatistics(lengths: Iterable<number>): LengthStatistics {
  const sorted = Float64Array.from(lengths).sort();
  const percentile = (share: number): number => sorted[Math.ceil(share * sorted.length) - 1]!;
  return {
    min: sorted[0]!,
    median: percentile(0.5),
    p90: percentile(0.9),
    p99: percentile(0.99),
    max: percentile(1),
    total: sorted.reduce((sum, length) => sum + length, 0),
  };
}
