import { formatSize } from "../text.ts";
import type { LogRecord, StepReport } from "./loop.ts";

/** The clock and the counts that a progress line needs. */
export interface Pace {
  readonly totalSteps: number;
  /** Time spent in training steps so far, evaluations left out. */
  readonly elapsedMs: number;
  /** Since the start of training. */
  readonly pairs: number;
  readonly tokens: number;
}

/** `step 3/9  loss 0.6863  margin 0.0141  accuracy 0.63  kl 0.0012  grad 0.48  lr 3.3e-4  4.10 pairs/s  480 tokens/s  0:52 left` */
export function formatStep({ step, record }: StepReport, { totalSteps, elapsedMs, pairs, tokens }: Pace): string {
  const perSecond = 1000 / Math.max(1, elapsedMs);
  const leftMs = (elapsedMs / step) * (totalSteps - step);
  return [
    `step ${String(step).padStart(String(totalSteps).length)}/${totalSteps}`,
    `loss ${number(record.loss)}`,
    `margin ${number(record["rewards/margins"])}`,
    `accuracy ${number(record["rewards/accuracies"], 2)}`,
    `kl ${number(record.kl)}`,
    `grad ${number(record.grad_norm, 2)}`,
    `lr ${(record.learning_rate ?? 0).toExponential(1)}`,
    `${(pairs * perSecond).toPrecision(3)} pairs/s`,
    `${Math.round(tokens * perSecond)} tokens/s`,
    `${formatDuration(leftMs)} left`,
  ].join("  ");
}

/** `evaluation at step 12  loss 0.5511  margin 0.4120  accuracy 0.76` */
export function formatEvaluation(record: LogRecord): string {
  const kl = record.eval_kl === undefined ? [] : [`kl ${number(record.eval_kl)}`];
  return [
    `evaluation at step ${record.step}`,
    `loss ${number(record.eval_loss)}`,
    `margin ${number(record["eval_rewards/margins"])}`,
    `accuracy ${number(record["eval_rewards/accuracies"], 2)}`,
    ...kl,
  ].join("  ");
}

/** `0:52`, `14:03`, `3:04:05` */
export function formatDuration(durationMs: number): string {
  const seconds = Math.round(durationMs / 1000);
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const two = (value: number) => String(value).padStart(2, "0");
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** `45% of 16.06 GB`, `45% of 0.3 MB` */
export function formatShare(doneBytes: number, totalBytes: number): string {
  return `${Math.floor((100 * doneBytes) / Math.max(1, totalBytes))}% of ${formatSize(totalBytes)}`;
}

function number(value: number | undefined, digits = 4): string {
  return value === undefined ? "-" : value.toFixed(digits);
}
