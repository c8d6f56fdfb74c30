import { describe, expect, it } from "vitest";
import { type FDivergenceType, LABEL_SMOOTHING_LOSS_TYPES, type LossType } from "../../../src/config/losses.ts";
import { fDivergenceScore } from "../../../src/train/loss/f-divergence.ts";
import { logSigmoid, sigmoid } from "../../../src/train/loss/logistic.ts";
import { preferenceLoss } from "../../../src/train/loss/preference-loss.ts";
import { excess, lossSettings, pairOf, readGolden } from "./helpers.ts";

type PairCase = {
  loss: LossType;
  beta: number;
  labelSmoothing: number;
  discopopTau: number;
  lengths: [number, number];
  logratios: [number, number];
  value: number;
  gradChosen: number;
  gradRejected: number;
};
type DivergenceCase = {
  divergence: FDivergenceType;
  coefficient: number;
  logratio: number;
  score: number;
  slope: number;
};
type LogisticCase = { x: number; sigmoid: number; logSigmoid: number };

const lines = readGolden("exact.jsonl");
const pairCases = lines.filter((line): line is PairCase => "loss" in (line as object));
const divergenceCases = lines.filter((line): line is DivergenceCase => "divergence" in (line as object));
const logisticCases = lines.filter((line): line is LogisticCase => "x" in (line as object));

/** Below float64's normal range only the absolute error can be small. */
const SUBNORMAL = 1e-307;

describe("against 800-digit arithmetic", () => {
  it.each(logisticCases)("sigmoid and logSigmoid at $x", (golden) => {
    expect(excess(sigmoid(golden.x), golden.sigmoid, 5e-16, SUBNORMAL)).toBeLessThanOrEqual(1);
    expect(excess(logSigmoid(golden.x), golden.logSigmoid, 5e-16, SUBNORMAL)).toBeLessThanOrEqual(1);
  });

  it.each(divergenceCases)("$divergence $coefficient at $logratio", (golden) => {
    const { score, slope } = fDivergenceScore(golden.logratio, golden.divergence, golden.coefficient);
    expect(excess(score, golden.score, 1e-14, SUBNORMAL)).toBeLessThanOrEqual(1);
    expect(excess(slope, golden.slope, 1e-14, SUBNORMAL)).toBeLessThanOrEqual(1);
  });

  it.each(pairCases)("$loss at $logratios with beta $beta", (golden) => {
    const { loss, beta, discopopTau } = golden;
    const labelSmoothing = LABEL_SMOOTHING_LOSS_TYPES.includes(loss) ? golden.labelSmoothing : 0;
    const settings = lossSettings({ lossTypes: [loss], beta, discopopTau, labelSmoothing });
    const result = preferenceLoss(pairOf(...golden.logratios, golden.lengths), settings);
    // Near 0 apo_down's gradient is the difference of two slopes of a quarter; elsewhere nothing cancels.
    const cancelled = loss === "apo_down" && Math.abs(golden.logratios[0]) < 1 ? 1e-17 : SUBNORMAL;
    expect(excess(result.loss, golden.value, 1e-13, SUBNORMAL)).toBeLessThanOrEqual(1);
    expect(excess(result.gradChosen[0]!, golden.gradChosen, 1e-13, cancelled)).toBeLessThanOrEqual(1);
    expect(excess(result.gradRejected[0]!, golden.gradRejected, 1e-13, SUBNORMAL)).toBeLessThanOrEqual(1);
  });
});
