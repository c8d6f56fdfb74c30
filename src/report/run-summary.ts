import { bestRecord } from "../sweep/read-results.ts";
import type { RunResult, RunStatus, SweepResults } from "../sweep/results.ts";
import { isTree, numberAt, textAt, valueAt } from "../train/json-tree.ts";
import type { RunFiles } from "./run-files.ts";

const STATUSES: readonly RunStatus[] = ["pending", "running", "paused", "interrupted", "done", "stopped", "failed"];

/** Where the run stands as its folder says; a run that has not said so is one that was cut short. */
export function statusOf({ run }: Pick<RunFiles, "run">): RunStatus {
  const status = textAt(run, "status");
  return STATUSES.find((known) => known === status) ?? "interrupted";
}

/** What runs are compared by: the evaluation loss, or the training loss where none of them was evaluated. */
export function lossMetric(runs: readonly RunFiles[]): SweepResults["metric"] {
  const isEvaluated = runs.some(({ evaluation }) => evaluation.length > 0);
  return { name: isEvaluated ? "eval_loss" : "loss", isLowerBetter: true };
}

/** A run as sweeps describe theirs, without its settings. */
export function resultOf(files: RunFiles): RunResult {
  const { run, train, evaluation, name } = files;
  return {
    name,
    settings: {},
    status: statusOf(files),
    reason: textAt(run, "reason") ?? textAt(run, "error"),
    steps: numberAt(run, "steps_done") ?? train.at(-1)?.step ?? 0,
    totalSteps: numberAt(run, "schedule", "total_steps"),
    seconds: totalSeconds(files),
    trainRecords: train,
    evalRecords: evaluation,
    final: evaluation.at(-1) ?? null,
    best: bestRecord(evaluation, lossMetric([files])),
  };
}

/** Of all phases; null where the run has told of none. */
function totalSeconds(run: RunFiles): number | null {
  const phases = phasesOf(run);
  return phases.length === 0 ? null : phases.reduce((sum, { seconds }) => sum + seconds, 0);
}

/** How long the phases of the run took, by their names in run.json: `train_s`. Rates, which stand among them, are none. */
export function phasesOf({ run }: Pick<RunFiles, "run">): { name: string; seconds: number }[] {
  const timings = valueAt(run, "timings");
  return Object.entries(isTree(timings) ? timings : {}).flatMap(([name, seconds]) =>
    /(?<!_per)_s$/.test(name) && typeof seconds === "number" ? [{ name, seconds }] : [],
  );
}
