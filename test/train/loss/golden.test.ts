import { describe, expect, it } from "vitest";
import { LOSS_TYPES } from "../../../src/config/losses.ts";
import { ldWeights } from "../../../src/train/loss/ld-weights.ts";
import { type LossSettings, preferenceLoss } from "../../../src/train/loss/preference-loss.ts";
import type { PreferenceBatch } from "../../../src/train/loss/types.ts";
import { excess, readGolden } from "./helpers.ts";

type Answer = { policy: number[]; reference: number[] };
type GoldenBatch = { chosen: Answer[]; rejected: Answer[] };
type GoldenCase = {
  batch: string;
  settings: LossSettings & { ldAlpha: number | null };
  loss: number | null;
  gradChosen: (number | null)[][];
  gradRejected: (number | null)[][];
};

const [{ batches }, ...cases] = readGolden("golden.jsonl") as [
  { batches: Record<string, GoldenBatch> },
  ...GoldenCase[],
];

/** The relative error allowed against TRL in float64, and the absolute one for terms that cancel there (1 − σ, eˣ − 1). */
const RELATIVE = 1e-12;
const ABSOLUTE = 1e-15;

function weightsOf(batch: GoldenBatch, side: "chosen" | "rejected", ldAlpha: number | null): Float64Array[] {
  const other = side === "chosen" ? batch.rejected : batch.chosen;
  return batch[side].map(({ policy }, i) => ldWeights(policy.length, other[i]!.policy.length, ldAlpha ?? 1));
}

function sums(answers: Answer[], model: keyof Answer, weights: Float64Array[]): Float64Array {
  return Float64Array.from(answers, (answer, i) =>
    answer[model].reduce((sum, logp, token) => sum + logp * weights[i]![token]!, 0),
  );
}

function preferenceBatch(batch: GoldenBatch, ldAlpha: number | null): PreferenceBatch {
  const chosenWeights = weightsOf(batch, "chosen", ldAlpha);
  const rejectedWeights = weightsOf(batch, "rejected", ldAlpha);
  return {
    chosenLogps: sums(batch.chosen, "policy", chosenWeights),
    rejectedLogps: sums(batch.rejected, "policy", rejectedWeights),
    refChosenLogps: sums(batch.chosen, "reference", chosenWeights),
    refRejectedLogps: sums(batch.rejected, "reference", rejectedWeights),
    chosenLengths: Float64Array.from(batch.chosen, ({ policy }) => policy.length),
    rejectedLengths: Float64Array.from(batch.rejected, ({ policy }) => policy.length),
    chosenTokenLogps: sums(batch.chosen, "policy", weightsOf(batch, "chosen", null)),
  };
}

/** The gradient of every completion token: its side's gradient times its LD weight, plus the chosen tokens' own. */
function tokenGradients(perAnswer: Float64Array, weights: Float64Array[], perToken?: Float64Array): number[][] {
  return weights.map((row, i) => Array.from(row, (weight) => perAnswer[i]! * weight + (perToken?.[i] ?? 0)));
}

function describeCase({ batch, settings }: GoldenCase): string {
  const { lossTypes, beta, labelSmoothing, fDivergenceType, fAlphaDivergenceCoef, ldAlpha } = settings;
  return `${lossTypes.join("+")} on ${batch}: beta ${beta}, epsilon ${labelSmoothing}, ${fDivergenceType} ${fAlphaDivergenceCoef}, ld ${ldAlpha}`;
}

describe("against TRL's _compute_loss and torch.autograd in float64", () => {
  it("covers every loss, divergence and LD weight", () => {
    expect(new Set(cases.flatMap(({ settings }) => settings.lossTypes))).toEqual(new Set(LOSS_TYPES));
    expect(new Set(cases.map(({ settings }) => settings.fDivergenceType)).size).toBe(4);
    expect(new Set(cases.map(({ settings }) => settings.ldAlpha))).toEqual(new Set([null, 0, 0.3, 1]));
    expect(cases.length).toBeGreaterThan(400);
  });

  it.each(cases.map((golden) => [describeCase(golden), golden] as const))("%s", (_, golden) => {
    const batch = batches[golden.batch]!;
    const { ldAlpha } = golden.settings;
    const result = preferenceLoss(preferenceBatch(batch, ldAlpha), golden.settings);
    const chosen = tokenGradients(result.gradChosen, weightsOf(batch, "chosen", ldAlpha), result.gradChosenTokens);
    const rejected = tokenGradients(result.gradRejected, weightsOf(batch, "rejected", ldAlpha));

    const compared = [golden.loss, ...golden.gradChosen.flat(), ...golden.gradRejected.flat()];
    const ours = [result.loss, ...chosen.flat(), ...rejected.flat()];
    expect(ours.length).toBe(compared.length);
    for (const [i, expected] of compared.entries()) {
      // Null: torch overflowed. What we return there is checked against exact arithmetic elsewhere.
      if (expected !== null) expect(excess(ours[i]!, expected, RELATIVE, ABSOLUTE)).toBeLessThanOrEqual(1);
    }
  });
});
