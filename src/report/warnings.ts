import { numberAt, valueAt } from "../train/json-tree.ts";
import type { RunRecord } from "../train/records.ts";
import { formatNumber } from "./browser/numbers.ts";
import { finite } from "./lines.ts";
import { formatPercent } from "./percent.ts";
import type { RunFiles } from "./run-files.ts";

/** Something in a run that its owner should look at. */
export interface Warning {
  readonly title: string;
  /** What was found where. */
  readonly found: string;
  readonly advice: string;
}

export type WatchedRun = Pick<RunFiles, "train" | "evaluation" | "config" | "run">;

/** Looks through a run's records for what goes wrong in DPO. */
export function findWarnings(run: WatchedRun): Warning[] {
  const checks = [notFinite, stuckAtStart, perfectEarly, chosenFalls, evaluationTurns, evaluationGap, gradientSpikes];
  return checks.flatMap((check) => check(run) ?? []);
}

/** The loss of a pair that the model has no preference in, for the sigmoid loss. */
const NO_PREFERENCE = Math.LN2;
const NEAR_NO_PREFERENCE = 0.01;
/** Shares of a run: what happens before the one is early, what lasts till the other is long. */
const EARLY = 1 / 3;
const LONG = 1 / 3;
/** Fewer records say nothing about a course. */
const LEAST_RECORDS = 8;

/** Whether the loss is ln 2 where there is no preference. */
export function isSigmoid({ config }: Pick<WatchedRun, "config">): boolean {
  const type = valueAt(config, "loss_type");
  return (Array.isArray(type) ? type.join() : type) === "sigmoid";
}

function notFinite({ train, evaluation }: WatchedRun): Warning | null {
  const found = [...train, ...evaluation].flatMap((record) =>
    Object.entries(record).flatMap(([key, value]) => (finite(value) === null ? [{ key, step: record.step }] : [])),
  );
  if (found.length === 0) return null;
  const first = found.reduce((a, b) => (b.step < a.step ? b : a));
  return {
    title: "Values that are not finite",
    found: `${found.length} of the recorded values, the first at step ${first.step}: ${first.key}.`,
    advice: "Try a lower learning_rate or a longer warm-up, and look at the pairs of that step.",
  };
}

function stuckAtStart(run: WatchedRun): Warning | null {
  if (!isSigmoid(run)) return null;
  const isNear = (record: RunRecord) =>
    Math.abs((finite(record.loss) ?? Number.NaN) - NO_PREFERENCE) < NEAR_NO_PREFERENCE;
  const away = run.train.findIndex((record) => !isNear(record));
  const stuck = away === -1 ? run.train : run.train.slice(0, away);
  const last = stuck.at(-1);
  if (!last || stuck.length < 5 || last.step < LONG * totalSteps(run)) return null;
  const equal = numberAt(run.run, "data", "train", "equalAnswers", "rows") ?? 0;
  const rate = Math.max(...run.train.map((record) => finite(record.learning_rate) ?? 0));
  return {
    title: "The loss stays at ln 2",
    found: `Up to step ${last.step} the loss is within ${NEAR_NO_PREFERENCE} of 0.693: the model has learnt no preference.`,
    advice:
      `Try a higher learning_rate (its highest here is ${formatNumber(rate)}) or a shorter warm-up, and check that chosen and rejected differ` +
      `${equal > 0 ? `: in ${equal} rows they are equal` : ""}.`,
  };
}

const PERFECT_RECORDS = 3;

function perfectEarly(run: WatchedRun): Warning | null {
  const { train } = run;
  const isPerfect = (record: RunRecord) => finite(record["rewards/accuracies"]) === 1;
  const start = train.findIndex((_, i) => {
    const records = train.slice(i, i + PERFECT_RECORDS);
    return records.length === PERFECT_RECORDS && records.every(isPerfect);
  });
  const end = train[start + PERFECT_RECORDS - 1];
  if (start === -1 || train.length < LEAST_RECORDS || end!.step > EARLY * totalSteps(run)) return null;
  const longer = numberAt(run.run, "data", "train", "chosenLongerShare");
  return {
    title: "Accuracy 1.0 early",
    found: `From step ${train[start]!.step} on the model ranks every pair right: there is little left to learn from them.`,
    advice:
      "The two answers may differ in something simple, such as length or a phrase" +
      `${longer === null ? "" : ` (chosen is the longer one in ${formatPercent(longer)} of the pairs)`}. ` +
      "Try harder pairs, a lower learning_rate, a higher beta or fewer epochs, and read sample answers before you trust the numbers.",
  };
}

function chosenFalls({ train }: WatchedRun): Warning | null {
  const chosen = change(train, "rewards/chosen");
  const margin = change(train, "rewards/margins");
  if (!chosen || !margin) return null;
  const growth = margin.late - margin.early;
  const fall = chosen.early - chosen.late;
  if (chosen.late >= 0 || growth <= 0 || fall < 0.1 * growth || fall < 0.02) return null;
  return {
    title: "The chosen answers become less likely",
    found: `rewards/chosen fell from ${formatNumber(chosen.early)} to ${formatNumber(chosen.late)} while the margin grew from ${formatNumber(margin.early)} to ${formatNumber(margin.late)}: the model mostly unlearns the rejected answers, and the chosen ones with them.`,
    advice:
      "Try a lower learning_rate or a higher beta, or hold the chosen answers with loss_type [sigmoid, sft] or apo_zero; read sample answers.",
  };
}

const RISE = 0.05;
const LEAST_RISE = 0.02;

function evaluationTurns({ evaluation }: WatchedRun): Warning | null {
  const points = valuesOf(evaluation, "eval_loss");
  const last = points.at(-1);
  if (!last || points.length < 3) return null;
  const best = points.reduce((a, b) => (b.value < a.value ? b : a));
  if (last.value - best.value <= Math.max(LEAST_RISE, RISE * Math.abs(best.value))) return null;
  return {
    title: "The evaluation loss rises again",
    found: `It was lowest at step ${best.step} with ${formatNumber(best.value)}, and is ${formatNumber(last.value)} at step ${last.step}.`,
    advice: `Stop near step ${best.step} (max_steps, or fewer epochs), or try a lower learning_rate, a higher beta or more pairs.`,
  };
}

const GAP = 0.15;

function evaluationGap({ train, evaluation }: WatchedRun): Warning | null {
  const training = change(train, "loss")?.late;
  const evaluated = valuesOf(evaluation, "eval_loss").at(-1)?.value;
  if (training === undefined || evaluated === undefined || evaluated - training <= GAP) return null;
  return {
    title: "Evaluation lags behind training",
    found: `The evaluation loss is ${formatNumber(evaluated)}, that of the last quarter of training ${formatNumber(training)}.`,
    advice:
      "The pairs are being learnt by heart, or the held-out ones are of another kind. Try fewer epochs, a lower learning_rate, a smaller lora.r or more pairs.",
  };
}

const SPIKE = 5;
const SPIKE_WINDOW = 20;
const LEAST_BEFORE_SPIKE = 5;
const SHOWN_SPIKES = 5;

function gradientSpikes({ train }: WatchedRun): Warning | null {
  const norms = valuesOf(train, "grad_norm");
  const spikes = norms.filter(({ value }, i) => {
    const before = norms.slice(Math.max(0, i - SPIKE_WINDOW), i).map((point) => point.value);
    return before.length >= LEAST_BEFORE_SPIKE && value > SPIKE * median(before);
  });
  if (spikes.length === 0) return null;
  const shown = spikes.slice(0, SHOWN_SPIKES).map(({ step, value }) => `${formatNumber(value)} at step ${step}`);
  const more = spikes.length > SHOWN_SPIKES ? `, and ${spikes.length - SHOWN_SPIKES} more` : "";
  return {
    title: "Spikes of the gradient",
    found: `The gradient norm is more than ${SPIKE} times its recent median: ${shown.join(", ")}${more}.`,
    advice: "Look at the pairs of these steps. Try a longer warm-up, a lower learning_rate or a lower max_grad_norm.",
  };
}

interface Point {
  readonly step: number;
  readonly value: number;
}

function valuesOf(records: readonly RunRecord[], key: string): Point[] {
  return records.flatMap((record) => {
    const value = finite(record[key]);
    return value === null ? [] : [{ step: record.step, value }];
  });
}

/** Means of the first and of the last quarter of a course; null where it is too short. */
function change(records: readonly RunRecord[], key: string): { early: number; late: number } | null {
  const values = valuesOf(records, key).map(({ value }) => value);
  if (values.length < LEAST_RECORDS) return null;
  const quarter = Math.floor(values.length / 4);
  return { early: mean(values.slice(0, quarter)), late: mean(values.slice(-quarter)) };
}

function totalSteps({ run, train }: WatchedRun): number {
  return numberAt(run, "schedule", "total_steps") ?? train.at(-1)?.step ?? 0;
}

function mean(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}
