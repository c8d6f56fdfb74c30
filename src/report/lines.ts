import type { RunRecord } from "../train/records.ts";
import type { ChartData, PageData, SeriesData } from "./page-data.ts";

/** Collects the lines of a page's charts. */
export interface LineCollector {
  /**
   * The number of the series that holds what a run has recorded under `key`; null where no record has a finite value
   * there. Records that lack the key are no points of it; a value that is not finite is a gap.
   */
  readonly add: (run: number, records: readonly RunRecord[], key: string) => number | null;
  readonly page: (charts: readonly ChartData[]) => PageData;
  /** Whether points were left out to keep the page small. */
  readonly isThinned: () => boolean;
}

/** @param maxPoints of longer series so many points are kept at most, highs and lows among them */
export function collectLines(maxPoints = Number.POSITIVE_INFINITY): LineCollector {
  const steps: number[][] = [];
  const series: SeriesData[] = [];
  const numbers = new Map<string, number | null>();
  /** The steps of all of a run's records, which most of its series share. */
  const sharedSteps = new Map<readonly RunRecord[], number>();
  let isThinned = false;

  const addSteps = (records: readonly RunRecord[], kept: readonly RunRecord[]): number => {
    const isWhole = kept.length === records.length;
    const shared = isWhole ? sharedSteps.get(records) : undefined;
    if (shared !== undefined) return shared;
    const number = steps.push(kept.map(({ step }) => step)) - 1;
    if (isWhole) sharedSteps.set(records, number);
    return number;
  };
  const addSeries = (run: number, records: readonly RunRecord[], key: string): number | null => {
    const points = records.filter((record) => record[key] !== undefined);
    if (!points.some((record) => finite(record[key]) !== null)) return null;
    const kept = thin(points, key, maxPoints);
    isThinned ||= kept.length < points.length;
    return (
      series.push({
        run,
        key,
        steps: addSteps(records, kept),
        values: kept.map((record) => shorten(finite(record[key]))),
      }) - 1
    );
  };
  return {
    add: (run, records, key) => {
      const name = `${run} ${key}`;
      const number = numbers.get(name) ?? addSeries(run, records, key);
      numbers.set(name, number);
      return number;
    },
    page: (charts) => ({ steps, series, charts }),
    isThinned: () => isThinned,
  };
}

/** A value that is a number, else null: JSON has null for NaN and the infinities. */
export function finite(value: number | null | undefined): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** Seven digits, what float32 has: more would make pages of long runs much larger. */
function shorten(value: number | null): number | null {
  return value === null ? null : Number(value.toPrecision(7));
}

/** Points that a stretch of the line keeps: its first, its last, its lowest, its highest and a gap. */
const KEPT_OF_STRETCH = 5;

/** At most `maxPoints` of the records, with the line through them looking alike. */
function thin(records: readonly RunRecord[], key: string, maxPoints: number): readonly RunRecord[] {
  if (records.length <= maxPoints) return records;
  const stretches = Math.max(1, Math.floor(maxPoints / KEPT_OF_STRETCH));
  return Array.from({ length: stretches }, (_, i) => {
    const start = Math.floor((i * records.length) / stretches);
    const end = Math.floor(((i + 1) * records.length) / stretches);
    return [...extremes(records, key, start, end)].sort((a, b) => a - b).map((index) => records[index]!);
  }).flat();
}

function extremes(records: readonly RunRecord[], key: string, start: number, end: number): Set<number> {
  const kept = new Set([start, end - 1]);
  let lowest = -1;
  let highest = -1;
  let gap = -1;
  for (let i = start; i < end; i++) {
    const value = finite(records[i]![key]);
    if (value === null) gap = i;
    else {
      if (lowest === -1 || value < finite(records[lowest]![key])!) lowest = i;
      if (highest === -1 || value > finite(records[highest]![key])!) highest = i;
    }
  }
  for (const index of [lowest, highest, gap]) if (index !== -1) kept.add(index);
  return kept;
}
