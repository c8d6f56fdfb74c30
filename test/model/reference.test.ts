import { describe, expect, it } from "vitest";
import { PROJECTIONS } from "../../src/weights/projections.ts";
import { absoluteError, relativeError, seededNumbers } from "../numbers.ts";
import {
  eachReferenceFactor,
  llamaGradients,
  llamaLogps,
  type ReferenceAdapter,
  type ReferenceFactors,
} from "../reference/llama.ts";
import { packedSequence } from "../reference/sequences.ts";
import { separateSequences } from "./separate-sequences.ts";
import { ODD_CONFIG, PAIR_LENGTHS, randomPairs, tinyAdapter, tinyModel } from "./tiny-model.ts";

// The float64 reference itself: its gradients against finite differences, and packed pairs against separate sequences.

const CONFIG = {
  ...ODD_CONFIG,
  vocabSize: 41,
  heads: 4,
  keyValueHeads: 2,
  rope: {
    theta: 10_000,
    scaling: { factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositionEmbeddings: 32 },
  },
};
const model = tinyModel(CONFIG, () => "f32").reference;
const adapter = tinyAdapter(CONFIG, { r: 3, loraAlpha: 7, useRslora: false, targetModules: PROJECTIONS });
const pairs = randomPairs(PAIR_LENGTHS, CONFIG.vocabSize);
const packed = packedSequence(pairs);
const coefficients = seededNumbers(4).normals(packed.targets.length);

describe("the float64 Llama", () => {
  it("has the gradients of central finite differences, for every factor", () => {
    const gradients = llamaGradients(model, adapter, packed, coefficients);
    const random = seededNumbers(5);
    for (const { layer, projection, factor, values } of eachReferenceFactor(gradients)) {
      for (let sample = 0; sample < 2; sample++) {
        const index = random.integer(0, values.length - 1);
        const objective = (shift: number) => {
          const logps = llamaLogps(model, shifted(layer, projection, factor, index, shift), packed);
          return logps.reduce((sum, logp, i) => sum + coefficients[i]! * logp, 0);
        };
        const central = (h: number) => (objective(h) - objective(-h)) / (2 * h);
        // Two step sizes: the error of order h² cancels.
        const slope = (4 * central(2 ** -11) - central(2 ** -10)) / 3;
        const error = Math.abs(values[index]! - slope);
        expect(error, `layer ${layer} ${projection} ${factor}[${index}]`).toBeLessThan(1e-8 * (1 + Math.abs(slope)));
      }
    }
  });

  function shifted(
    layer: number,
    projection: (typeof PROJECTIONS)[number],
    factor: "a" | "b",
    index: number,
    by: number,
  ) {
    const factors = adapter.layers[layer]![projection] as ReferenceFactors;
    const values = Float64Array.from(factors[factor]);
    values[index]! += by;
    const layers = adapter.layers.map((own, i) =>
      i === layer ? { ...own, [projection]: { ...factors, [factor]: values } } : own,
    );
    return { ...adapter, layers } satisfies ReferenceAdapter;
  }

  it("gives packed pairs what separate causal sequences get", () => {
    const { policy, base, gradients } = separateSequences(model, adapter, pairs, coefficients);
    expect(absoluteError(llamaLogps(model, adapter, packed), policy)).toBeLessThan(1e-12);
    expect(absoluteError(llamaLogps(model, null, packed), base)).toBeLessThan(1e-12);
    const together = [...eachReferenceFactor(llamaGradients(model, adapter, packed, coefficients))];
    expect(gradients.length).toBe(together.length);
    for (const [i, { values }] of together.entries()) {
      expect(relativeError(values, gradients[i]!.values)).toBeLessThan(1e-12);
    }
  });

  it("gives every row a distribution: the probabilities of all tokens add up to 1", () => {
    const everyToken = Array.from({ length: CONFIG.vocabSize }, (_, token) => ({ row: 7, token }));
    const logps = llamaLogps(model, adapter, { ...packed, targets: everyToken });
    expect(logps.reduce((sum, logp) => sum + Math.exp(logp), 0)).toBeCloseTo(1, 12);
  });
});
