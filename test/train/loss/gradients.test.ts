import { describe, expect, it } from "vitest";
import {
  F_DIVERGENCE_LOSS_TYPES,
  F_DIVERGENCE_TYPES,
  LABEL_SMOOTHING_LOSS_TYPES,
  LABEL_SMOOTHING_REQUIRED_LOSS_TYPES,
  LOSS_TYPES,
} from "../../../src/config/losses.ts";
import { type LossSettings, preferenceLoss } from "../../../src/train/loss/preference-loss.ts";
import type { PreferenceBatch } from "../../../src/train/loss/types.ts";
import { lossSettings } from "./helpers.ts";

/** Numbers in (−1, 1) from a fixed seed (mulberry32). */
function seededNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1;
  };
}

function randomBatch(pairCount: number, seed: number): PreferenceBatch {
  const next = seededNumbers(seed);
  const logps = () => Float64Array.from({ length: pairCount }, () => -8 + 4 * next());
  const lengths = () => Float64Array.from({ length: pairCount }, () => 1 + Math.floor(4 + 4 * next()));
  return {
    chosenLogps: logps(),
    rejectedLogps: logps(),
    refChosenLogps: logps(),
    refRejectedLogps: logps(),
    chosenLengths: lengths(),
    rejectedLengths: lengths(),
    chosenTokenLogps: logps(),
  };
}

/** The central difference of the loss in one log-probability, extrapolated from two step sizes (error of order h⁴). */
function slopeOfLoss(
  batch: PreferenceBatch,
  settings: LossSettings,
  name: "chosenLogps" | "rejectedLogps" | "chosenTokenLogps",
  index: number,
): number {
  const lossAt = (shift: number) => {
    const shifted = { ...batch, [name]: batch[name].slice() };
    shifted[name][index]! += shift;
    return preferenceLoss(shifted, settings).loss;
  };
  const central = (h: number) => (lossAt(h) - lossAt(-h)) / (2 * h);
  const h = 2 ** -10;
  return (4 * central(h / 2) - central(h)) / 3;
}

function expectGradients(batch: PreferenceBatch, settings: LossSettings): void {
  const result = preferenceLoss(batch, settings);
  for (const [name, gradient] of [
    ["chosenLogps", result.gradChosen],
    ["rejectedLogps", result.gradRejected],
    ["chosenTokenLogps", result.gradChosenTokens],
  ] as const) {
    for (const [index, analytic] of gradient.entries()) {
      const numeric = slopeOfLoss(batch, settings, name, index);
      expect(Math.abs(analytic - numeric)).toBeLessThanOrEqual(1e-8 * (1 + Math.abs(numeric)));
    }
  }
}

describe("gradients against finite differences", () => {
  for (const lossType of LOSS_TYPES) {
    const smoothings = LABEL_SMOOTHING_REQUIRED_LOSS_TYPES.includes(lossType)
      ? [0.01, 0.3]
      : LABEL_SMOOTHING_LOSS_TYPES.includes(lossType)
        ? [0, 0.3]
        : [0];
    it.each(smoothings)(`${lossType} with label smoothing %d`, (labelSmoothing) => {
      for (const pairCount of [1, 2, 5]) {
        for (const beta of [0.1, 0.7]) {
          expectGradients(
            randomBatch(pairCount, 10 + pairCount),
            lossSettings({ lossTypes: [lossType], labelSmoothing, beta, discopopTau: 0.5 }),
          );
        }
      }
    });
  }

  it.each(F_DIVERGENCE_TYPES)("every loss that allows %s", (fDivergenceType) => {
    for (const lossType of F_DIVERGENCE_LOSS_TYPES.filter((type) => type !== "sft")) {
      const labelSmoothing = LABEL_SMOOTHING_REQUIRED_LOSS_TYPES.includes(lossType) ? 0.1 : 0;
      for (const fAlphaDivergenceCoef of [0.5, -0.5, 1, 1.5]) {
        expectGradients(
          randomBatch(3, 7),
          lossSettings({
            lossTypes: [lossType],
            labelSmoothing,
            fDivergenceType,
            fAlphaDivergenceCoef,
            discopopTau: 0.5,
          }),
        );
      }
    }
  });

  it("a weighted sum of several losses", () => {
    const settings = lossSettings({
      lossTypes: ["sigmoid", "bco_pair", "aot", "sft"],
      lossWeights: [0.8, 0.2, 0.5, 1],
    });
    expectGradients(randomBatch(4, 3), settings);
  });
});
