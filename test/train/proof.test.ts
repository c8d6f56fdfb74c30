import { describe, expect, it } from "vitest";
import { ExpectedError } from "../../src/errors.ts";
import type { MicroBatch } from "../../src/train/metrics.ts";
import type { Objective, ReferenceLogps } from "../../src/train/objective.ts";
import { proveStart } from "../../src/train/proof.ts";
import type { PairScore } from "../../src/train/scores.ts";
import { lossSettings } from "./loss/helpers.ts";
import { answer, pairLogps, references } from "./scored-pairs.ts";

const SIGMOID: Objective = { ...lossSettings({ beta: 0.5 }), ldAlpha: 1 };
const PLACES = [
  ["train.jsonl:1", "train.jsonl:7"],
  ["train.jsonl:3", "train.jsonl:4"],
];

const scores: PairScore[] = [
  { chosen: answer([-1, -2]), rejected: answer([-4]) },
  { chosen: answer([-0.5]), rejected: answer([-2, -6, -1]) },
];

/** A micro-batch whose reference differs from the policy by `moved` nats on the second pair's chosen answer. */
function microBatch(loss: number, moved = 0): MicroBatch {
  const bases = scores.map(({ chosen, rejected }, i): ReferenceLogps => {
    const own = [...chosen.tokenLogps];
    return references(i === 1 ? [own[0]! - moved, ...own.slice(1)] : own, [...rejected.tokenLogps]);
  });
  return { loss, scores, references: bases, logps: scores.map((score, i) => pairLogps(score, bases[i]!)) };
}

const LN_2 = Math.log(2);

function messageOf(microBatches: readonly MicroBatch[], objective = SIGMOID): string {
  try {
    proveStart(microBatches, objective, PLACES);
  } catch (error) {
    expect(error).toBeInstanceOf(ExpectedError);
    expect((error as ExpectedError).exitCode).toBe(2);
    return (error as Error).message;
  }
  return "passed";
}

describe("the step-0 proof", () => {
  it("passes where the policy is the reference", () => {
    expect(messageOf([microBatch(LN_2), microBatch(LN_2)])).toBe("passed");
  });

  // A margin is β = 0.5 times the difference in nats.
  it.each([0, 1e-6, -1e-6, 1.9e-5, -1.9e-5])("passes a difference of %f nats: a margin within 1e-5", (moved) => {
    expect(messageOf([microBatch(LN_2), microBatch(LN_2, moved)])).toBe("passed");
  });

  it.each([2.1e-5, -2.1e-5, 1, -30])("fails at a difference of %f nats, and names the pair", (moved) => {
    const message = messageOf([microBatch(LN_2), microBatch(LN_2, moved)]);
    expect(message).toMatch(/^step-0 proof failed: .* margin must be 0 within 0\.00001, but train\.jsonl:4 has -?\d/);
    expect(message).toContain("--set reference_cache=false");
  });

  it.each([0, 9e-6, -9e-6])("passes a loss that is off by %f", (off) => {
    expect(messageOf([microBatch(LN_2), microBatch(LN_2 + off)])).toBe("passed");
  });

  it.each([1.1e-5, -1.1e-5, 5, Number.NaN])("fails at a loss that is off by %f, and says what it must be", (off) => {
    const message = messageOf([microBatch(LN_2 + off), microBatch(LN_2)]);
    expect(message).toContain(`the loss must be ${LN_2} within 0.00001, found ${LN_2 + off}`);
  });

  it("fails at a margin that is not a number", () => {
    expect(messageOf([microBatch(LN_2, Number.NaN)])).toContain("train.jsonl:7 has NaN");
  });

  it.each([
    { objective: { ...SIGMOID, lossTypes: ["ipo"] } satisfies Objective, loss: 1 }, // (0 − 1 / (2 β))²
    { objective: { ...SIGMOID, lossTypes: ["hinge"] } satisfies Objective, loss: 1 },
    { objective: { ...SIGMOID, labelSmoothing: 0.3 } satisfies Objective, loss: LN_2 },
    { objective: { ...SIGMOID, ldAlpha: 0.5 } satisfies Objective, loss: LN_2 },
    // The cross-entropy of the chosen tokens: −(−1 − 2 − 0.5) / 3, added to ln 2.
    {
      objective: { ...SIGMOID, lossTypes: ["sigmoid", "sft"], lossWeights: [1, 1] } satisfies Objective,
      loss: LN_2 + 3.5 / 3,
    },
  ])("asks of $objective.lossTypes a loss of $loss", ({ objective, loss }) => {
    expect(messageOf([microBatch(loss)], objective)).toBe("passed");
    expect(messageOf([microBatch(loss + 2e-5)], objective)).toContain("step-0 proof failed");
  });
});
