import path from "node:path";
import type { Sweep, SweepRun } from "../config/sweep.ts";
import type { RunRecord } from "../train/records.ts";
import type { RunResult, SweepResults } from "./results.ts";
import { readRecords, readState } from "./run-files.ts";

/** What the runs of a sweep have come to so far, as their folders say. */
export async function readResults(sweep: Sweep): Promise<SweepResults> {
  const runs: RunResult[] = [];
  for (const run of sweep.runs) runs.push(await readResult(run, sweep.metric));
  return { folder: path.resolve(sweep.folder), keys: sweep.keys, metric: sweep.metric, runs };
}

async function readResult({ name, settings, config }: SweepRun, metric: SweepResults["metric"]): Promise<RunResult> {
  const { status, reason, stepsDone, totalSteps, seconds } = await readState(config.output_dir);
  const { train, evaluation } = await readRecords(config.output_dir);
  return {
    name,
    settings,
    status,
    reason,
    steps: Math.max(stepsDone, train.at(-1)?.step ?? 0),
    totalSteps,
    seconds,
    trainRecords: train,
    evalRecords: evaluation,
    final: evaluation.at(-1) ?? null,
    best: bestRecord(evaluation, metric),
  };
}

/** The best evaluation by a metric, the earliest of equal ones; null where none has a number. */
export function bestRecord(
  records: readonly RunRecord[],
  { name, isLowerBetter }: SweepResults["metric"],
): RunRecord | null {
  let best: { record: RunRecord; score: number } | null = null;
  for (const record of records) {
    const value = record[name];
    if (typeof value !== "number") continue;
    const score = isLowerBetter ? -value : value;
    if (!best || score > best.score) best = { record, score };
  }
  return best?.record ?? null;
}

/**
 * The run whose final evaluation is best, among those that are done: its last weights are what it has written. Null where
 * there is none.
 */
export function bestRun({ runs, metric }: SweepResults): RunResult | null {
  const finals = runs.flatMap((run) => (run.status === "done" && run.final ? [{ run, final: run.final }] : []));
  const best = bestRecord(
    finals.map(({ final }) => final),
    metric,
  );
  return finals.find(({ final }) => final === best)?.run ?? null;
}
