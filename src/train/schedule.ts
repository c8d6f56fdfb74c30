/** The learning rate of every optimizer step, as transformers 5.18 computes it (optimization.py). */

import type { LrSchedulerType } from "../config/names.ts";

export type LrSchedule = {
  type: LrSchedulerType;
  /** The rate at the top of the schedule. */
  learningRate: number;
  /** Steps of linear warmup; `constant` has none and ignores it. */
  warmupSteps: number;
  /** Optimizer steps of the whole run. */
  totalSteps: number;
};

/**
 * The learning rate that optimizer step `step` uses, counted from 0. Step 0 runs at a rate of 0 where there is warmup.
 * Where the warmup is as long as the run or longer, the rate never reaches its top.
 */
export function learningRateAt(step: number, schedule: LrSchedule): number {
  return schedule.learningRate * multiplier(step, schedule);
}

function multiplier(step: number, { type, warmupSteps, totalSteps }: LrSchedule): number {
  if (type === "constant") return 1;
  if (step < warmupSteps) return step / Math.max(1, warmupSteps);
  const decaySteps = Math.max(1, totalSteps - warmupSteps);
  switch (type) {
    case "constant_with_warmup":
      return 1;
    case "linear":
      return Math.max(0, (totalSteps - step) / decaySteps);
    case "cosine":
      return Math.max(0, 0.5 * (1 + Math.cos(Math.PI * ((step - warmupSteps) / decaySteps))));
    default:
      throw new Error(`internal: unknown schedule ${type satisfies never}`);
  }
}

/**
 * A share of a run in steps, rounded up: transformers' rule for warmup, logging, evaluation and saving. The product is
 * float64's, so that 0.07 of 100 steps, 7.000000000000001, makes 8 steps, as it does there.
 */
export function shareOfSteps(share: number, totalSteps: number): number {
  return Math.ceil(totalSteps * share);
}
