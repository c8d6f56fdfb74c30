import { describe, expect, it } from "vitest";
import { scheduleLength } from "../../src/data/microbatches.ts";
import { eventsAfter, planEvents } from "../../src/train/when.ts";
import { runCases } from "./schedules-golden.ts";

describe("against the events of a transformers Trainer", () => {
  it.each(runCases)("$settings over $totalSteps steps", (run) => {
    const length = scheduleLength({
      pairCount: run.pairs,
      perDeviceTrainBatchSize: run.batch,
      gradientAccumulationSteps: run.accumulation,
      numTrainEpochs: "num_train_epochs" in run.length ? run.length.num_train_epochs : 1,
      maxSteps: "max_steps" in run.length ? run.length.max_steps : undefined,
      shuffle: false,
      seed: 0,
    });
    const plan = planEvents(
      {
        loggingSteps: run.settings.logging_steps,
        evalStrategy: run.settings.eval_strategy,
        evalSteps: run.settings.eval_steps,
        saveSteps: run.settings.save_steps,
      },
      length,
    );
    expect(plan.totalSteps).toBe(run.totalSteps);

    const ours: [string, number][] = [];
    for (let step = 1; step <= plan.totalSteps; step++) {
      const events = eventsAfter(step, plan);
      for (const event of ["log", "evaluate", "save"] as const) if (events[event]) ours.push([event, step]);
    }
    // With the strategy `epoch` the Trainer evaluates after it has saved; ours always evaluates first.
    const sorted = (events: [string, number][]) => events.map(([event, step]) => `${step} ${event}`).toSorted();
    expect(sorted(ours)).toEqual(sorted(run.events));
    if (run.settings.eval_strategy !== "epoch") expect(ours).toEqual(run.events);
  });
});

describe("eventsAfter", () => {
  it("always evaluates and saves at the end, but never evaluates with the strategy no", () => {
    const run = { totalSteps: 11, stepsPerEpoch: 5 };
    const settings = { loggingSteps: 4, evalSteps: 4, saveSteps: 4 };
    const last = (evalStrategy: "no" | "steps" | "epoch") =>
      eventsAfter(11, planEvents({ ...settings, evalStrategy }, run));
    expect(last("no")).toEqual({ log: false, evaluate: false, save: true });
    expect(last("steps")).toEqual({ log: false, evaluate: true, save: true });
    expect(last("epoch")).toEqual({ log: false, evaluate: true, save: true });
  });

  it("evaluates every 0.2 of the run, rounded up to whole steps", () => {
    const plan = planEvents(
      { loggingSteps: 1, evalStrategy: "steps", evalSteps: 0.2, saveSteps: 500 },
      { totalSteps: 48, stepsPerEpoch: 48 },
    );
    const evaluated = Array.from({ length: 48 }, (_, i) => i + 1).filter((step) => eventsAfter(step, plan).evaluate);
    expect(evaluated).toEqual([10, 20, 30, 40, 48]);
  });

  it("saves at the end only without save_steps, and refuses the strategy steps without eval_steps", () => {
    const run = { totalSteps: 9, stepsPerEpoch: 3 };
    const plan = planEvents({ loggingSteps: 1, evalStrategy: "no" }, run);
    const saved = Array.from({ length: 9 }, (_, i) => i + 1).filter((step) => eventsAfter(step, plan).save);
    expect(saved).toEqual([9]);
    expect(() => planEvents({ loggingSteps: 1, evalStrategy: "steps" }, run)).toThrow("internal: eval_strategy steps");
  });
});
