import { describe, expect, it } from "vitest";
import { LR_SCHEDULER_TYPES } from "../../src/config/names.ts";
import { learningRateAt, shareOfSteps } from "../../src/train/schedule.ts";
import { ratesCases, runCases, TOP_LEARNING_RATE, warmupCases } from "./schedules-golden.ts";

/** Two units in the last place: Math.cos and libm's cos may round differently. */
const ULPS = 2 * Number.EPSILON;

function expectRate(actual: number, expected: number): void {
  expect(Math.abs(actual - expected)).toBeLessThanOrEqual(ULPS * TOP_LEARNING_RATE);
}

describe("learningRateAt against transformers", () => {
  it("covers every schedule", () => {
    expect(new Set(ratesCases.map(({ type }) => type))).toEqual(new Set(LR_SCHEDULER_TYPES));
  });

  it.each(ratesCases)("$type with $warmup warmup steps of $total", ({ type, warmup, total, learningRates }) => {
    const schedule = { type, learningRate: TOP_LEARNING_RATE, warmupSteps: warmup, totalSteps: total };
    expect(learningRates).toHaveLength(total);
    for (const [step, expected] of learningRates.entries()) expectRate(learningRateAt(step, schedule), expected);
  });

  it.each(runCases)("the rates logged in a Trainer's run of $totalSteps steps", (run) => {
    const { warmup_steps = 0, lr_scheduler_type = "linear" } = run.settings;
    const schedule = {
      type: lr_scheduler_type,
      learningRate: TOP_LEARNING_RATE,
      warmupSteps: warmup_steps < 1 ? shareOfSteps(warmup_steps, run.totalSteps) : warmup_steps,
      totalSteps: run.totalSteps,
    };
    const logged = run.events.filter(([event]) => event === "log").map(([, step]) => step);
    expect(run.learningRates).toHaveLength(logged.length);
    for (const [i, step] of logged.entries()) expectRate(learningRateAt(step - 1, schedule), run.learningRates[i]!);
  });

  it("starts at 0 under warmup, peaks at its end and never falls below 0", () => {
    for (const type of ["linear", "cosine"] as const) {
      const schedule = { type, learningRate: 1, warmupSteps: 4, totalSteps: 20 };
      expect(learningRateAt(0, schedule)).toBe(0);
      expect(learningRateAt(4, schedule)).toBe(1);
      for (const step of [20, 21, 1000]) expect(learningRateAt(step, schedule)).toBeGreaterThanOrEqual(0);
    }
    expect(learningRateAt(25, { type: "linear", learningRate: 1, warmupSteps: 4, totalSteps: 20 })).toBe(0);
    expect(learningRateAt(4, { type: "linear", learningRate: 1, warmupSteps: 4, totalSteps: 4 })).toBe(0);
  });
});

describe("shareOfSteps against transformers", () => {
  it.each(warmupCases)("a warmup of $share of $total steps has $steps", ({ share, total, steps }) => {
    expect(shareOfSteps(share, total)).toBe(steps);
  });

  it("takes the whole run for a share of 1", () => {
    expect(shareOfSteps(1, 37)).toBe(37);
  });
});
