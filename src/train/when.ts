/** After which optimizer steps to log, evaluate and save: transformers 5.18's DefaultFlowCallback as pure functions. */

import type { EvalStrategy } from "../config/names.ts";
import { shareOfSteps } from "./schedule.ts";

/** Each number counts steps (1 or more) or is a share of the run (below 1). */
export type EventSettings = {
  loggingSteps: number;
  evalStrategy: EvalStrategy;
  /** Needed by the strategy `steps`, not read by the others. */
  evalSteps?: number | undefined;
  /** Not given: save at the end only. */
  saveSteps?: number | undefined;
};

/** The same in whole steps, for a run of `totalSteps`. */
export type EventPlan = {
  totalSteps: number;
  logEvery: number;
  /** Undefined: never, not even at the end. */
  evaluateEvery: number | undefined;
  /** Undefined: at the end only. */
  saveEvery: number | undefined;
};

export function planEvents(settings: EventSettings, run: { totalSteps: number; stepsPerEpoch: number }): EventPlan {
  const { totalSteps } = run;
  const { loggingSteps, saveSteps } = settings;
  return {
    totalSteps,
    logEvery: wholeSteps(loggingSteps, totalSteps),
    evaluateEvery: evaluateEvery(settings, run),
    saveEvery: saveSteps === undefined ? undefined : wholeSteps(saveSteps, totalSteps),
  };
}

/**
 * What follows optimizer step `step`, counted from 1, in the order log, evaluate, save. The last step is always
 * evaluated (unless evaluation is off) and saved, but it is logged only when its turn has come.
 */
export function eventsAfter(step: number, plan: EventPlan): { log: boolean; evaluate: boolean; save: boolean } {
  const isLast = step >= plan.totalSteps;
  return {
    log: step % plan.logEvery === 0,
    evaluate: plan.evaluateEvery !== undefined && (isLast || step % plan.evaluateEvery === 0),
    save: isLast || (plan.saveEvery !== undefined && step % plan.saveEvery === 0),
  };
}

function evaluateEvery(
  { evalStrategy, evalSteps }: EventSettings,
  { totalSteps, stepsPerEpoch }: { totalSteps: number; stepsPerEpoch: number },
): number | undefined {
  switch (evalStrategy) {
    case "no":
      return undefined;
    case "epoch":
      return stepsPerEpoch;
    case "steps":
      if (evalSteps === undefined) throw new Error("internal: eval_strategy steps needs eval_steps");
      return wholeSteps(evalSteps, totalSteps);
    default:
      throw new Error(`internal: unknown eval_strategy ${evalStrategy satisfies never}`);
  }
}

function wholeSteps(countOrShare: number, totalSteps: number): number {
  return countOrShare >= 1 ? countOrShare : shareOfSteps(countOrShare, totalSteps);
}
