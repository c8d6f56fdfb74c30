import { expect } from "vitest";
import type { PairTokens } from "../../src/data/pack.ts";
import { type Numbers, relativeError } from "../numbers.ts";
import {
  eachReferenceFactor,
  llamaGradients,
  llamaLogps,
  type ReferenceAdapter,
  type ReferenceModel,
} from "../reference/llama.ts";
import { causalSequence } from "../reference/sequences.ts";

/** Per token, absolute: what f32 may lose in a whole forward pass of these models. */
export const LOGP_TOLERANCE = 2e-5;
/** Relative by norm, of each factor's gradient. */
export const GRADIENT_TOLERANCE = 1e-5;

/** A gradient with the name of its factor: "layer 0 q_proj a". */
export interface NamedGradient {
  readonly name: string;
  readonly values: Numbers;
}

/**
 * What pairs should give, computed the plain way in float64: prompt + chosen and prompt + rejected as two ordinary causal
 * sequences. Log-probabilities are in the order of `slotsOf`, one pair after another, chosen before rejected.
 */
export function separateSequences(
  model: ReferenceModel,
  adapter: ReferenceAdapter,
  pairs: readonly PairTokens[],
  coefficients: Float32Array,
): { policy: number[]; base: number[]; gradients: NamedGradient[] } {
  const sequences = pairs.flatMap(({ promptIds, chosenIds, rejectedIds }) =>
    [chosenIds, rejectedIds].map((answerIds) => causalSequence(Array.from(promptIds), Array.from(answerIds))),
  );
  const sums = new Map<string, Float64Array>();
  let first = 0;
  for (const sequence of sequences) {
    const own = coefficients.subarray(first, first + sequence.targets.length);
    first += sequence.targets.length;
    const gradients = llamaGradients(model, adapter, sequence, own);
    for (const { layer, projection, factor, values } of eachReferenceFactor(gradients)) {
      const name = `layer ${layer} ${projection} ${factor}`;
      const sum = sums.get(name) ?? new Float64Array(values.length);
      for (let i = 0; i < sum.length; i++) sum[i]! += values[i]!;
      sums.set(name, sum);
    }
  }
  return {
    policy: sequences.flatMap((sequence) => [...llamaLogps(model, adapter, sequence)]),
    base: sequences.flatMap((sequence) => [...llamaLogps(model, null, sequence)]),
    gradients: [...sums].map(([name, values]) => ({ name, values })),
  };
}

export function expectGradients(
  actual: readonly NamedGradient[],
  expected: readonly NamedGradient[],
  tolerance: number,
): void {
  expect(actual.map(({ name }) => name)).toEqual(expected.map(({ name }) => name));
  for (const [i, { name, values }] of expected.entries()) {
    expect(relativeError(actual[i]!.values, values), name).toBeLessThan(tolerance);
  }
}
