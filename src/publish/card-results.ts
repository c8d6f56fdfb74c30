import { formatNumber } from "../report/browser/numbers.ts";
import type { RunFiles } from "../report/run-files.ts";
import { resultOf } from "../report/run-summary.ts";
import { numberAt, textAt, valueAt } from "../train/json-tree.ts";
import { EVAL_PREFIX, type RunRecord } from "../train/records.ts";
import type { CardFacts } from "./card.ts";
import { code, codeBlock, table } from "./markdown.ts";

const COLUMNS: readonly (readonly [key: string, title: string])[] = [
  ["loss", "loss"],
  ["rewards/margins", "margin"],
  ["rewards/accuracies", "accuracy"],
  ["rewards/chosen", "reward, chosen"],
  ["rewards/rejected", "reward, rejected"],
  ["logps/chosen", "log-prob., chosen"],
  ["logps/rejected", "log-prob., rejected"],
  ["kl", "KL"],
  ["kl/chosen", "KL, chosen"],
];

/** Evaluations shown: enough to see where it went. */
const MAX_ROWS = 8;

/** What was measured, step by step. */
export function resultsSection({ run, what }: CardFacts): string {
  const isEvaluated = run.evaluation.length > 0;
  const records = isEvaluated ? run.evaluation : run.train.slice(-1);
  return [
    "## Results",
    introduction(run, isEvaluated),
    records.length === 0 ? "" : resultsTable(records, isEvaluated),
    what === "merged" ? fidelity(run) : "",
  ]
    .filter((part) => part !== "")
    .join("\n\n");
}

function introduction(run: RunFiles, isEvaluated: boolean): string {
  if (!isEvaluated)
    return run.train.length === 0 ? "Not measured." : "Of the last step, on training pairs: nothing was held out.";
  const { best, final } = resultOf(run);
  const where =
    best && best.step !== final?.step ? `the lowest loss was at step ${best.step}` : "which have the lowest loss";
  return `On held-out pairs. The weights are those of the last step, ${where}. A reward is β times how much likelier an answer has become than under the base; the margin is that of the chosen answer less that of the rejected one, and accuracy the share of pairs in which it is above 0.`;
}

function resultsTable(records: readonly RunRecord[], isEvaluated: boolean): string {
  const prefix = isEvaluated ? EVAL_PREFIX : "";
  const columns = COLUMNS.filter(([key]) => records.some((record) => typeof record[prefix + key] === "number"));
  const rows = spread(records).map((record) => [
    String(record.step),
    ...columns.map(([key]) => formatNumber(record[prefix + key])),
  ]);
  return table(["step", ...columns.map(([, title]) => title)], rows, true);
}

/** At most MAX_ROWS, evenly spaced, the last among them. */
function spread(records: readonly RunRecord[]): RunRecord[] {
  if (records.length <= MAX_ROWS) return [...records];
  const last = records.length - 1;
  return Array.from({ length: MAX_ROWS }, (_, i) => records[Math.round((i * last) / (MAX_ROWS - 1))]!);
}

function fidelity({ run }: RunFiles): string {
  const report = valueAt(run, "merge", "fidelity");
  const [dtype, overall] = [textAt(report, "dtype"), numberAt(report, "overall", "fidelity")];
  if (dtype === null || overall === null) return "";
  const floored = Math.floor(1000 * overall) / 1000;
  return `Merged in ${code(dtype)}: of what was learnt, rounding has left ${floored} (1 is all of it, 0 none).`;
}

/** One question answered before and after; empty where the run was not asked to. */
export function sampleSection({ run, config }: Pick<RunFiles, "run" | "config">): string {
  const prompt = textAt(config, "sample_prompt");
  const [before, after] = [textAt(run, "samples", "before"), textAt(run, "samples", "after")];
  if (prompt === null || before === null || after === null) return "";
  const temperature = numberAt(config, "sample_temperature");
  const how = temperature === 0 ? " (the likeliest tokens)" : "";
  return [
    "## A sample",
    "Prompt:",
    codeBlock(prompt, "text"),
    `Before training${how}:`,
    codeBlock(before, "text"),
    "After:",
    codeBlock(after, "text"),
  ].join("\n\n");
}
