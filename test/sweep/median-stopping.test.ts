import { describe, expect, it } from "vitest";
import { medianStop } from "../../src/sweep/median-stopping.ts";
import type { RunRecord } from "../../src/train/records.ts";

const LOSS = { name: "eval_loss", isLowerBetter: true };
const ACCURACY = { name: "eval_rewards/accuracies", isLowerBetter: false };

/** Evaluations at epochs 1, 2, … */
function evaluations(values: readonly (number | null)[], name = "eval_loss", epochs = 1): RunRecord[] {
  return values.map((value, i) => ({ step: i + 1, epoch: (i + 1) * epochs, [name]: value }));
}

describe("medianStop", () => {
  const others = [evaluations([0.6, 0.4]), evaluations([0.7, 0.5]), evaluations([0.5, 0.3])];

  it("ends a run whose best is worse than the median of the others' averages so far", () => {
    // The averages after two evaluations are 0.5, 0.6 and 0.4.
    expect(medianStop(evaluations([0.55, 0.52]), others, LOSS)).toBe(
      "its best eval_loss by epoch 2, 0.5200, is worse than the median of 3 other runs, 0.5000",
    );
    expect(medianStop(evaluations([0.55, 0.49]), others, LOSS)).toBeNull();
    expect(medianStop(evaluations([0.45, 0.9]), others, LOSS)).toBeNull();
  });

  it("lets a run go on that is as good as the median", () => {
    expect(medianStop(evaluations([0.6, 0.5]), others, LOSS)).toBeNull();
  });

  it("takes what is higher for better where the metric is so", () => {
    const of = (values: number[]) => evaluations(values, ACCURACY.name);
    const good = [of([0.8]), of([0.7]), of([0.9]), of([0.6])];
    expect(medianStop(of([0.7]), good, ACCURACY)).toMatch(/0\.7000, is worse than the median of 4 other runs, 0\.7500/);
    expect(medianStop(of([0.76]), good, ACCURACY)).toBeNull();
  });

  it("does not judge by fewer than three others that have come as far", () => {
    expect(medianStop(evaluations([0.9]), others.slice(1), LOSS)).toBeNull();
    const behind = [...others.slice(1), evaluations([0.1])];
    expect(medianStop(evaluations([0.9, 0.9]), behind, LOSS)).toBeNull();
    expect(medianStop(evaluations([0.9]), behind, LOSS)).not.toBeNull();
  });

  it("compares runs after as many epochs, however many steps those take", () => {
    const own: RunRecord[] = [{ step: 50, epoch: 1, eval_loss: 0.65 }];
    expect(medianStop(own, others, LOSS)).toMatch(/0\.6500, is worse than the median of 3 other runs, 0\.6000/);
  });

  it("leaves out evaluations that gave no number", () => {
    const broken = [evaluations([null, null]), ...others];
    expect(medianStop(evaluations([0.55, 0.52]), broken, LOSS)).toMatch(/of 3 other runs/);
    expect(medianStop(evaluations([null, null]), others, LOSS)).toBeNull();
    expect(medianStop([], others, LOSS)).toBeNull();
  });
});
