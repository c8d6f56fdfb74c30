import { describe, expect, test } from "vitest";
import { optimizerSteps, scheduleLength } from "../../src/data/microbatches.ts";
import { epochOrder } from "../../src/data/shuffle.ts";
import { trainTestSplit } from "../../src/data/split.ts";
import { InputError } from "../../src/errors.ts";
import { goldenDraws, shortOrDigest } from "../random/golden.ts";

test.each(goldenDraws("permutation"))("the order of $n pairs from seed $seed is torch's", ({ n, seed, order }) => {
  expect(shortOrDigest(epochOrder(n, seed, 0))).toEqual(order);
  if (seed > 0) expect(shortOrDigest(epochOrder(n, seed - 1, 1))).toEqual(order);
});

describe("trainTestSplit", () => {
  test.each(goldenDraws("split"))("splits $n rows by $test_size, seed $seed, as datasets does", (golden) => {
    const parts = trainTestSplit(golden.n, golden.test_size, golden.seed);
    expect(shortOrDigest(parts.train)).toEqual(golden.train);
    expect(shortOrDigest(parts.test)).toEqual(golden.test);
  });

  test.each([
    [10, 0],
    [10, -1],
    [10, 1.5],
    [10, Number.NaN],
    [10, 10],
    [10, 11],
    [1, 0.5],
    [0, 0.5],
    [3, 0.99],
  ])("refuses %d rows split by %d", (rows, testSize) => {
    expect(() => trainTestSplit(rows, testSize, 0)).toThrow(InputError);
  });
});

describe("optimizerSteps", () => {
  const optionsOf = (golden: ReturnType<typeof goldenDraws<"schedule">>[number]) => ({
    pairCount: golden.pairs,
    perDeviceTrainBatchSize: golden.batch,
    gradientAccumulationSteps: golden.accumulation,
    numTrainEpochs: golden.num_train_epochs ?? 3,
    maxSteps: golden.max_steps,
    shuffle: golden.shuffle,
    seed: golden.seed,
  });

  test.each(goldenDraws("schedule"))(
    "$pairs pairs, batch $batch × $accumulation, seed $seed, shuffle $shuffle: TRL's micro-batches and epochs",
    (golden) => {
      const options = optionsOf(golden);
      const steps = [...optimizerSteps(options)];
      expect(scheduleLength(options).totalSteps).toBe(golden.total_steps);
      expect(steps.map(({ step }) => step)).toEqual(golden.epochs.map((_, i) => i + 1));
      expect(steps.map(({ epoch }) => epoch)).toEqual(golden.epochs);
      expect(steps.flatMap(({ microBatches }) => microBatches.map((batch) => [...batch]))).toEqual(
        golden.micro_batches,
      );
    },
  );

  test("a run that resumes takes the steps that were left", () => {
    for (const golden of goldenDraws("schedule")) {
      const all = [...optimizerSteps(optionsOf(golden))];
      for (let done = 0; done <= all.length; done++) {
        expect([...optimizerSteps(optionsOf(golden), done)]).toEqual(all.slice(done));
      }
    }
  });

  test("the micro-batches of a step at the end of an epoch are fewer, and the last one smaller", () => {
    const options = { ...optionsOf(goldenDraws("schedule")[0]!), pairCount: 13, numTrainEpochs: 1, shuffle: false };
    const sizes = [...optimizerSteps(options)].map(({ microBatches }) => microBatches.map((batch) => batch.length));
    expect(sizes).toEqual([[2, 2, 2], [2, 2, 2], [1]]);
  });

  test("refuses to plan for no pairs", () => {
    const options = { ...optionsOf(goldenDraws("schedule")[0]!), pairCount: 0, maxSteps: 3 };
    expect(() => optimizerSteps(options).next()).toThrow("internal: a schedule needs at least one pair");
  });
});
