import { bestRecord } from "../sweep/read-results.ts";
import type { RunResult, SweepResults } from "../sweep/results.ts";
import { EVAL_PREFIX, type RunRecord } from "../train/records.ts";

/** What a run came to: its last record and the one where the metric is best. Null without records. */
export interface RunScore {
  readonly final: RunRecord | null;
  readonly best: RunRecord | null;
}

/** The records are of evaluations, or of training where that is what the metric is of. */
export function scoreOf({ final, best, trainRecords }: RunResult, metric: SweepResults["metric"]): RunScore {
  if (metric.name.startsWith(EVAL_PREFIX)) return { final, best };
  return { final: trainRecords.at(-1) ?? null, best: bestRecord(trainRecords, metric) };
}
