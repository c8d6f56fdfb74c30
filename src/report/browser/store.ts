import type { PageData, PageRecord } from "../page-data.ts";

/** The points of a line, in the order of steps. */
export interface Points {
  /** Of evaluations: few, and each a mean over all held-out pairs. */
  readonly isEvaluation: boolean;
  readonly steps: number[];
  readonly values: (number | null)[];
}

interface Store {
  /** By the number of the series. */
  readonly series: readonly Points[];
  /** Takes a record that a run has made, and returns the series that grew. */
  readonly add: (record: PageRecord, run: number) => number[];
}

/** Owns the page's points. */
export function createStore(data: Pick<PageData, "steps" | "series">): Store {
  const series = data.series.map(({ key, steps, values }) => ({
    isEvaluation: key.startsWith("eval_"),
    steps: [...(data.steps[steps] ?? [])],
    values: [...values],
  }));
  const numbers = new Map(data.series.map(({ run, key }, number) => [`${run} ${key}`, number]));
  return {
    series,
    add: (record, run) => {
      const { step } = record;
      if (typeof step !== "number") return [];
      return Object.entries(record).flatMap(([key, value]) => {
        const number = numbers.get(`${run} ${key}`);
        if (number === undefined) return [];
        addPoint(series[number]!, step, value);
        return [number];
      });
    },
  };
}

/** A run that is continued from a checkpoint repeats its steps: what came of them before goes. */
function addPoint({ steps, values }: Points, step: number, value: number | null): void {
  let kept = steps.length;
  while (kept > 0 && steps[kept - 1]! >= step) kept--;
  steps.length = kept;
  values.length = kept;
  steps.push(step);
  values.push(value);
}
