import { describe, expect, it } from "vitest";
import { averageMetrics, k3Divergence, type MicroBatch, mean, microBatchMetrics } from "../../src/train/metrics.ts";
import type { PairScore } from "../../src/train/scores.ts";
import { seededNumbers } from "../numbers.ts";
import { answer, pairLogps, references } from "./scored-pairs.ts";

/** Two pairs whose answers have one to three tokens, with numbers that can be added up in one's head. */
const scores: PairScore[] = [
  {
    chosen: answer([-1, -2], { entropySum: 3, meanLogitSum: 1, hits: 1 }),
    rejected: answer([-4], { entropySum: 2, meanLogitSum: -3, hits: 1 }),
  },
  {
    chosen: answer([-0.5, -0.25, -0.25], { entropySum: 1, meanLogitSum: 2, hits: 3 }),
    rejected: answer([-2, -6], { entropySum: 4, meanLogitSum: 9, hits: 0 }),
  },
];
const bases = [references([-2, -3], [-3]), references([-0.5, -0.5, -1], [-4, -3])];
const batch: MicroBatch = {
  loss: 0.5,
  scores,
  references: bases,
  logps: scores.map((score, i) => pairLogps(score, bases[i]!)),
};

describe("microBatchMetrics", () => {
  it("has TRL's numbers, added up by hand", () => {
    // Log-ratios: pair 1 chosen −3 + 5 = 2, rejected −4 + 3 = −1; pair 2 chosen −1 + 2 = 1, rejected −8 + 7 = −1.
    expect(microBatchMetrics(batch, 0.5)).toEqual({
      entropy: (3 + 2 + 1 + 4) / 8, // by token, whatever the answer
      "logits/chosen": (1 + 2) / 5,
      "logits/rejected": (-3 + 9) / 3,
      mean_token_accuracy: (1 + 3) / 5, // of chosen tokens alone
      "rewards/chosen": (1 + 0.5) / 2,
      "rewards/rejected": (-0.5 - 0.5) / 2,
      "rewards/accuracies": 1,
      "rewards/margins": (1.5 + 1) / 2,
      "logps/chosen": (-3 - 1) / 2, // by pair, whatever the length
      "logps/rejected": (-4 - 8) / 2,
    });
  });

  it("lists them in TRL's order", () => {
    expect(Object.keys(microBatchMetrics(batch, 0.5))).toEqual([
      "entropy",
      "logits/chosen",
      "logits/rejected",
      "mean_token_accuracy",
      "rewards/chosen",
      "rewards/rejected",
      "rewards/accuracies",
      "rewards/margins",
      "logps/chosen",
      "logps/rejected",
    ]);
  });

  it("counts a tie as lost, as at the first step", () => {
    const own = scores.map(({ chosen, rejected }) => references([...chosen.tokenLogps], [...rejected.tokenLogps]));
    const tied = { ...batch, references: own, logps: scores.map((score, i) => pairLogps(score, own[i]!)) };
    expect(microBatchMetrics(tied, 0.5)).toMatchObject({ "rewards/accuracies": 0, "rewards/margins": 0 });
    const halfTied = { ...tied, logps: [batch.logps[0]!, tied.logps[1]!] };
    expect(microBatchMetrics(halfTied, 0.5)).toMatchObject({ "rewards/accuracies": 0.5 });
  });

  it("takes rewards from the weighted sums, as LD-DPO has them, and the rest from tokens", () => {
    const logps = [
      { chosen: -1, rejected: -2, refChosen: -3, refRejected: -5 },
      { chosen: -1, rejected: -2, refChosen: -3, refRejected: -5 },
    ];
    const plain = microBatchMetrics(batch, 0.1);
    expect(microBatchMetrics({ ...batch, logps }, 0.1)).toEqual({
      ...plain,
      "rewards/chosen": 0.2,
      "rewards/rejected": 0.30000000000000004,
      "rewards/accuracies": 0,
      "rewards/margins": expect.closeTo(-0.1, 12),
      "logps/chosen": -1,
      "logps/rejected": -2,
    });
  });
});

describe("k3Divergence", () => {
  const of = (policy: number[], base: number[]) =>
    k3Divergence({
      scores: [{ chosen: answer(policy), rejected: answer(policy.slice(0, 1)) }],
      references: [references(base, base.slice(0, 1))],
    });

  it("is the mean over the tokens of both answers of r − 1 − ln r", () => {
    // r = π_ref / π is e, 1/e and 1 on the chosen answer, e on the rejected one.
    expect(of([-2, -2, -2], [-1, -3, -2])).toBeCloseTo((2 * (Math.E - 2) + 1 / Math.E) / 4, 14);
    const perPair = k3Divergence({ scores, references: bases });
    const term = (logRatio: number) => Math.exp(logRatio) - 1 - logRatio;
    const terms = [-1, -1, 1, 0, -0.25, -0.75, -2, 3].map(term);
    expect(perPair).toBeCloseTo(mean(terms), 14);
  });

  it("is 0 where they agree, and not negative anywhere", () => {
    expect(of([-2, -5], [-2, -5])).toBe(0);
    const random = seededNumbers(1);
    for (let trial = 0; trial < 1000; trial++) {
      const policy = -20 * random.uniform();
      const movement = 10 ** -random.integer(0, 16) * (random.uniform() - 0.5);
      expect(of([policy], [policy + movement])).toBeGreaterThanOrEqual(0);
    }
  });

  it("keeps its digits where they differ by little", () => {
    // r − 1 − ln r = x² / 2 + x³ / 6 + …; the difference of exp would have no digit left.
    const x = 2 ** -26;
    expect(of([-1], [-1 + x]) / (x ** 2 / 2)).toBeCloseTo(1, 6);
  });
});

describe("averageMetrics", () => {
  it("weighs micro-batches alike, whatever their sizes", () => {
    expect(
      averageMetrics([
        { a: 1, b: -1 },
        { a: 2, b: 3 },
        { a: 6, b: 1 },
      ]),
    ).toEqual({ a: 3, b: 1 });
    expect(averageMetrics([{ a: 0.1 }])).toEqual({ a: 0.1 });
    expect(averageMetrics([])).toEqual({});
  });

  it("shows a number that is not one", () => {
    expect(averageMetrics([{ a: 1 }, { a: Number.NaN }])).toEqual({ a: Number.NaN });
  });
});
