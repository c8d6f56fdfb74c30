import { printable } from "../text.ts";
import { formatDuration } from "../train/progress.ts";
import type { RunRecord } from "../train/records.ts";
import type { RunResult, SweepResults } from "./results.ts";

const NUMBERS = [
  ["loss", "eval_loss"],
  ["margin", "eval_rewards/margins"],
  ["accuracy", "eval_rewards/accuracies"],
  ["kl chosen", "eval_kl/chosen"],
] as const;

/**
 * The runs beside each other: settings, where they stand, the last evaluation, the best value of the metric and the step it
 * was at, time. The best run has a star.
 */
export function formatTable({ runs, keys, metric }: SweepResults, best: RunResult | null): string[] {
  const isEvaluated = runs.some(({ final }) => final);
  const headers = [
    "",
    ...keys,
    "status",
    "steps",
    ...(isEvaluated ? [...NUMBERS.map(([header]) => header), `best ${metric.name}`] : ["loss"]),
    "time",
  ];
  const rows = runs.map((run) => [
    run === best ? "*" : "",
    ...keys.map((key) => textOf(run.settings[key])),
    run.status,
    run.totalSteps === null ? "" : `${run.steps}/${run.totalSteps}`,
    ...(isEvaluated
      ? [...NUMBERS.map(([, name]) => number(run.final, name)), bestOf(run, metric.name)]
      : [number(run.trainRecords.at(-1) ?? null, "loss")]),
    run.seconds === null ? "" : formatDuration(run.seconds * 1000),
  ]);
  return align([headers, ...rows]);
}

/** sweep.json: the same for programs, without the curves, which are in each run's metrics.jsonl. */
export function resultsJson({ folder, keys, metric, runs }: SweepResults, best: RunResult | null): object {
  return {
    folder,
    keys,
    metric: metric.name,
    best: best?.name ?? null,
    runs: runs.map(({ name, settings, status, reason, steps, totalSteps, seconds, final, best: bestRecord }) => ({
      name,
      settings,
      status,
      reason,
      steps,
      total_steps: totalSteps,
      seconds,
      final,
      best: bestRecord,
    })),
  };
}

function bestOf({ best }: RunResult, name: string): string {
  return best ? `${number(best, name)} at ${best.step}` : "";
}

function number(record: RunRecord | null, name: string): string {
  const value = record?.[name];
  return typeof value === "number" ? value.toFixed(4) : "";
}

function textOf(value: unknown): string {
  return printable(typeof value === "string" ? value : (JSON.stringify(value) ?? ""), 40);
}

function align(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join("  ")
      .trimEnd(),
  );
}
