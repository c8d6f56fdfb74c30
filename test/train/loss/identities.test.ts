import { describe, expect, it } from "vitest";
import { F_DIVERGENCE_LOSS_TYPES, F_DIVERGENCE_TYPES, LOSS_TYPES, type LossType } from "../../../src/config/losses.ts";
import { preferenceLoss } from "../../../src/train/loss/preference-loss.ts";
import { couplesPairs } from "../../../src/train/loss/table.ts";
import { batchOf, lossSettings, pairOf } from "./helpers.ts";

const MIXED: [number, number][] = [
  [1.5, -0.25],
  [-2, 0.5],
  [0.125, 3],
];

/** Settings that every loss accepts on its own. */
function settingsFor(lossType: LossType) {
  return lossSettings({ lossTypes: [lossType], labelSmoothing: lossType === "exo_pair" ? 0.125 : 0 });
}

function allNumbers(result: ReturnType<typeof preferenceLoss>): number[] {
  return [result.loss, ...result.gradChosen, ...result.gradRejected, ...result.gradChosenTokens];
}

describe("known values", () => {
  it("gives torchtune's arithmetic case", () => {
    const chosen = [-0.5, -10, -1];
    const rejected = [-0.1, -30, -21];
    const refChosen = [-0.5, -10.1, -0.1];
    const refRejected = [-0.1, -20.1, -0.1];
    const losses = chosen.map((_, i) => {
      const batch = pairOf(chosen[i]! - refChosen[i]!, rejected[i]! - refRejected[i]!);
      return preferenceLoss(batch, lossSettings({ beta: 0.1 })).loss;
    });
    // biome-ignore lint/suspicious/noApproximativeNumericConstant: the digits that torchtune prints.
    for (const [i, expected] of [0.693147, 0.313262, 0.126928].entries()) {
      expect(Math.abs(losses[i]! - expected)).toBeLessThan(5e-7);
    }
  });

  const beta = 0.25;
  const atStart: Record<Exclude<LossType, "sft">, number> = {
    sigmoid: Math.LN2,
    hinge: 1,
    ipo: 4,
    exo_pair: -Math.LN2 - (Math.log(0.875) + Math.log(0.125)) / 2,
    nca_pair: 2 * Math.LN2,
    robust: Math.LN2,
    bco_pair: 2 * Math.LN2,
    sppo_hard: 8,
    aot: Math.LN2,
    aot_unpaired: Math.LN2,
    apo_zero: 1,
    apo_down: 1,
    discopop: (Math.LN2 + 1) / 2,
    sigmoid_norm: Math.LN2,
  };

  it.each(Object.entries(atStart))(
    "%s starts at its value for a policy equal to its reference",
    (lossType, expected) => {
      const start: [number, number][] = [
        [0, 0],
        [0, 0],
      ];
      const settings = { ...settingsFor(lossType as LossType), beta };
      expect(preferenceLoss(batchOf(start), settings).loss).toBeCloseTo(expected, 14);
    },
  );

  it.each(F_DIVERGENCE_TYPES)("sigmoid starts at ln 2 and a slope of −β/2 with %s", (fDivergenceType) => {
    const { loss, gradChosen, gradRejected } = preferenceLoss(pairOf(0, 0), lossSettings({ beta, fDivergenceType }));
    expect(loss).toBe(Math.LN2);
    // ln(2u/(1 + u)) rises half as fast as ln u.
    const slope = fDivergenceType === "js_divergence" ? 0.5 : 1;
    expect([gradChosen[0], gradRejected[0]]).toEqual([(-beta / 2) * slope, (beta / 2) * slope]);
  });

  it("hinge is flat from its corner on, as torch.relu is", () => {
    const hinge = (margin: number) => preferenceLoss(pairOf(margin, 0), { ...settingsFor("hinge"), beta });
    expect(allNumbers(hinge(4)).map(Math.abs)).toEqual([0, 0, 0, 0]);
    expect(allNumbers(hinge(3)).slice(0, 3)).toEqual([0.25, -beta, beta]);
  });

  it("sft is the mean over tokens, not over answers", () => {
    const batch = batchOf(MIXED, [
      [1, 2],
      [5, 2],
      [2, 9],
    ]);
    const { loss, gradChosen, gradRejected, gradChosenTokens } = preferenceLoss(batch, settingsFor("sft"));
    expect(loss).toBeCloseTo((18.5 + 22 + 19.875) / 8, 14);
    expect(gradChosenTokens).toEqual(new Float64Array(3).fill(-1 / 8));
    expect([...gradChosen, ...gradRejected]).toEqual([0, 0, 0, 0, 0, 0]);
  });
});

describe("structure", () => {
  it.each(LOSS_TYPES)("%s couples the pairs of a micro-batch exactly when couplesPairs says so", (lossType) => {
    const lengths: [number, number][] = [
      [1, 6],
      [7, 2],
      [3, 3],
    ];
    const settings = settingsFor(lossType);
    const batch = batchOf(MIXED, lengths);
    // Log-ratios as before, but the references of the pairs now differ: without that aot has nothing to sort.
    batch.rejectedLogps[1]! -= 1;
    batch.refRejectedLogps[1]! -= 1;
    const together = preferenceLoss(batch, settings);
    const apart = MIXED.map((pair, i) => preferenceLoss(batchOf([pair], [lengths[i]!]), settings));
    const meanLoss = apart.reduce((sum, { loss }) => sum + loss / 3, 0);
    expect(Math.abs(together.loss - meanLoss) > 1e-6).toBe(couplesPairs([lossType]));
    if (!couplesPairs([lossType])) {
      for (const [i, single] of apart.entries()) {
        expect(together.gradChosen[i]).toBeCloseTo(single.gradChosen[0]! / 3, 14);
        expect(together.gradRejected[i]).toBeCloseTo(single.gradRejected[0]! / 3, 14);
      }
    }
  });

  it("couplesPairs holds for a list when it holds for one of its losses", () => {
    expect(couplesPairs(["sigmoid", "ipo"])).toBe(false);
    expect(couplesPairs(["sigmoid", "sft"])).toBe(true);
  });

  it.each(LOSS_TYPES)("%s does not depend on the order of the pairs", (lossType) => {
    const settings = settingsFor(lossType);
    const forward = preferenceLoss(batchOf(MIXED), settings);
    const backward = preferenceLoss(batchOf(MIXED.toReversed()), settings);
    expect(backward.loss).toBeCloseTo(forward.loss, 14);
    expect(backward.gradChosen.toReversed()).toEqual(forward.gradChosen);
    expect(backward.gradRejected.toReversed()).toEqual(forward.gradRejected);
  });

  it("aot gives the earlier of two tied pairs the smaller reference", () => {
    const batch = batchOf([
      [0, 0],
      [0, 0],
    ]);
    batch.refChosenLogps[0] = -21;
    const { gradChosen } = preferenceLoss(batch, lossSettings({ lossTypes: ["aot"], beta: 1 }));
    // Policy differences 10, 10; reference differences 9, 10: the first pair meets 9, a margin of 1.
    expect(gradChosen[0]).toBeCloseTo(-1 / (1 + Math.E) / 2, 15);
    expect(gradChosen[1]).toBeCloseTo(-1 / 4, 15);
  });

  it("weights losses linearly", () => {
    const batch = batchOf(MIXED);
    const [sigmoid, sft] = [settingsFor("sigmoid"), settingsFor("sft")].map((one) => preferenceLoss(batch, one));
    const both = preferenceLoss(batch, lossSettings({ lossTypes: ["sigmoid", "sft"], lossWeights: [0.75, 2] }));
    expect(both.loss).toBeCloseTo(0.75 * sigmoid!.loss + 2 * sft!.loss, 13);
    expect(both.gradChosen).toEqual(sigmoid!.gradChosen.map((gradient) => 0.75 * gradient));
    expect(both.gradChosenTokens).toEqual(sft!.gradChosenTokens.map((gradient) => 2 * gradient));
  });

  it("leaves the batch as it was", () => {
    const batch = batchOf(MIXED);
    const before = structuredClone(batch);
    preferenceLoss(batch, lossSettings({ lossTypes: ["aot", "sigmoid"], lossWeights: [1, 1] }));
    expect(batch).toEqual(before);
  });
});

describe("extremes", () => {
  it.each(LOSS_TYPES)("%s stays finite for log-ratios up to ±10,000", (lossType) => {
    const settings = settingsFor(lossType);
    for (const chosen of [-1e4, -1e-300, 1e4]) {
      for (const rejected of [-1e4, 1e-300, 1e4]) {
        for (const beta of [0.01, 1]) {
          const numbers = allNumbers(preferenceLoss(pairOf(chosen, rejected), { ...settings, beta }));
          expect(numbers.every(Number.isFinite)).toBe(true);
        }
      }
    }
  });

  it.each(LOSS_TYPES)("%s passes NaN on", (lossType) => {
    const batch = batchOf(MIXED);
    batch.chosenLogps[1] = Number.NaN;
    batch.chosenTokenLogps[1] = Number.NaN;
    expect(preferenceLoss(batch, settingsFor(lossType)).loss).toBeNaN();
  });

  it("an overflowing forward_kl score saturates the loss or makes it infinite, but gives no finite wrong number", () => {
    const settings = (lossType: LossType) => ({ ...settingsFor(lossType), fDivergenceType: "forward_kl" as const });
    for (const lossType of ["sigmoid", "hinge", "robust", "discopop", "sigmoid_norm"] as const) {
      const saturated = preferenceLoss(pairOf(0, -1000), settings(lossType));
      expect(allNumbers(saturated).map(Math.abs)).toEqual([0, 0, 0, 0]);
    }
    const saturated = preferenceLoss(pairOf(0, -1000), settings("exo_pair"));
    expect(allNumbers(saturated).map(Math.abs)).toEqual([-Math.log(0.875), 0, 0, 0]);
    expect(preferenceLoss(pairOf(-1000, 0), settings("sigmoid")).loss).toBe(Number.POSITIVE_INFINITY);
    expect(preferenceLoss(pairOf(-1000, -1001), settings("sigmoid")).loss).toBeNaN();
  });
});

describe("refusals", () => {
  it("refuses a batch that is not one", () => {
    const settings = lossSettings({});
    expect(() => preferenceLoss(batchOf([]), settings)).toThrow("at least one pair");
    const short = { ...batchOf(MIXED), refChosenLogps: new Float64Array(2) };
    expect(() => preferenceLoss(short, settings)).toThrow("internal: refChosenLogps must have 3 values");
    for (const length of [0, -1, 1.5, Number.NaN]) {
      const batch = batchOf([[0, 0]], [[4, length]]);
      expect(() => preferenceLoss(batch, settings)).toThrow(
        "internal: rejectedLengths[0] must be a whole number above 0",
      );
    }
  });

  it("refuses settings that are not defined together", () => {
    const batch = batchOf(MIXED);
    const unweighted = lossSettings({ lossTypes: ["sigmoid", "ipo"] });
    expect(() => preferenceLoss(batch, unweighted)).toThrow("internal: 2 losses need as many weights, got 1");
    for (const lossType of LOSS_TYPES) {
      const settings = { ...settingsFor(lossType), fDivergenceType: "forward_kl" as const };
      if (F_DIVERGENCE_LOSS_TYPES.includes(lossType)) expect(preferenceLoss(batch, settings).loss).not.toBeNaN();
      else expect(() => preferenceLoss(batch, settings)).toThrow(`internal: ${lossType} is not defined for forward_kl`);
    }
  });
});
