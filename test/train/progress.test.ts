import { describe, expect, it } from "vitest";
import type { LogRecord } from "../../src/train/loop.ts";
import { formatDuration, formatEvaluation, formatShare, formatStep } from "../../src/train/progress.ts";

const RECORD: LogRecord = {
  step: 3,
  epoch: 0.5,
  loss: 0.68634,
  "rewards/margins": -0.01406,
  "rewards/accuracies": 0.625,
  kl: 0.00123,
  grad_norm: 1.234,
  learning_rate: 3.333e-6,
};

describe("a step's line", () => {
  it("has loss, margin, accuracy, pace and the time left", () => {
    const report = { step: 3, record: RECORD, pairs: 16, tokens: 1920 };
    expect(formatStep(report, { totalSteps: 24, elapsedMs: 12_000, pairs: 48, tokens: 5760 })).toBe(
      "step  3/24  loss 0.6863  margin -0.0141  accuracy 0.63  kl 0.0012  grad 1.23  lr 3.3e-6  4.00 pairs/s  480 tokens/s  1:24 left",
    );
  });

  it("shows what is not there as such, and no rate that is infinite", () => {
    const report = { step: 1, record: { step: 1, epoch: 1, loss: 2 }, pairs: 1, tokens: 10 };
    expect(formatStep(report, { totalSteps: 1, elapsedMs: 0, pairs: 1, tokens: 10 })).toBe(
      "step 1/1  loss 2.0000  margin -  accuracy -  kl -  grad -  lr 0.0e+0  1.00e+3 pairs/s  10000 tokens/s  0:00 left",
    );
  });
});

it("an evaluation's line has kl where it was measured", () => {
  const record = {
    step: 12,
    epoch: 1,
    eval_loss: 0.55114,
    "eval_rewards/margins": 0.412,
    "eval_rewards/accuracies": 0.76,
  };
  const line = "evaluation at step 12  loss 0.5511  margin 0.4120  accuracy 0.76";
  expect(formatEvaluation(record)).toBe(line);
  expect(formatEvaluation({ ...record, eval_kl: 0.01 })).toBe(`${line}  kl 0.0100`);
});

it.each([
  [0, "0:00"],
  [499, "0:00"],
  [59_500, "1:00"],
  [52_000, "0:52"],
  [843_000, "14:03"],
  [3_599_499, "59:59"],
  [11_045_000, "3:04:05"],
  [360_000_000, "100:00:00"],
])("%i ms is %s", (durationMs, text) => {
  expect(formatDuration(durationMs)).toBe(text);
});

it.each([
  [0, 0, "0% of 0.0 MB"],
  [1, 3, "33% of 0.0 MB"],
  [79_991, 79_992, "99% of 0.1 MB"],
  [7_924_608, 7_924_608, "100% of 7.9 MB"],
  [7_227_000_000, 16_060_000_000, "45% of 16.06 GB"],
])("%i of %i bytes is %s", (doneBytes, totalBytes, text) => {
  expect(formatShare(doneBytes, totalBytes)).toBe(text);
});
