import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { inverseFrequencies, ropeTable } from "../../src/model/rope-table.ts";
import type { Rope } from "../../src/weights/llama-config.ts";
import { absoluteError, F32_ROUNDING, firstDifference, relativeError } from "../numbers.ts";
import { exactTurn, inverseFrequency } from "../reference/rope.ts";
import { ODD_CONFIG } from "./tiny-model.ts";

/** transformers' tables: test/golden/rope.json, written by scripts/golden/rope.py. */
interface GoldenCase {
  readonly name: string;
  readonly head_dim: number;
  readonly rope_parameters: {
    readonly rope_type: "default" | "llama3";
    readonly rope_theta: number;
    readonly factor: number;
    readonly low_freq_factor: number;
    readonly high_freq_factor: number;
    readonly original_max_position_embeddings: number;
  };
  readonly inverse_frequencies: readonly number[];
  /** One row for each position. */
  readonly cos: readonly (readonly number[])[];
  readonly sin: readonly (readonly number[])[];
}

const golden = JSON.parse(readFileSync(new URL("../golden/rope.json", import.meta.url), "utf8")) as {
  readonly positions: readonly number[];
  readonly cases: readonly GoldenCase[];
};

function configOf({ head_dim: headDim, rope_parameters: parameters }: GoldenCase) {
  const scaling = {
    factor: parameters.factor,
    lowFreqFactor: parameters.low_freq_factor,
    highFreqFactor: parameters.high_freq_factor,
    originalMaxPositionEmbeddings: parameters.original_max_position_embeddings,
  };
  const rope: Rope = { theta: parameters.rope_theta, scaling: parameters.rope_type === "llama3" ? scaling : null };
  return { ...ODD_CONFIG, headDim, rope };
}

describe.each(golden.cases)("$name, heads of $head_dim", (expected) => {
  const config = configOf(expected);

  it("has transformers' inverse frequencies to the last bit", () => {
    const frequencies = inverseFrequencies(config);
    expect(firstDifference(frequencies, Float32Array.from(expected.inverse_frequencies))).toBe(-1);
    const exact = Array.from(frequencies, (_, d) => inverseFrequency(d, config.headDim, config.rope));
    // PyTorch's own roundings: of the exponent, times ln θ, and of each step of the blend.
    expect(relativeError(frequencies, exact)).toBeLessThan(30 * F32_ROUNDING);
  });

  it("has transformers' cosines and sines up to position 131,071, but for half a unit in the last place of 1", () => {
    const half = config.headDim / 2;
    const table = ropeTable(config, Math.max(...golden.positions) + 1);
    for (const [i, position] of golden.positions.entries()) {
      const row = table.subarray(2 * half * position, 2 * half * (position + 1));
      const part = (offset: number) => Array.from({ length: half }, (_, d) => row[2 * d + offset]!);
      expect(absoluteError(part(0), expected.cos[i]!), `cos at ${position}`).toBeLessThanOrEqual(F32_ROUNDING);
      expect(absoluteError(part(1), expected.sin[i]!), `sin at ${position}`).toBeLessThanOrEqual(F32_ROUNDING);
    }
  });
});

it("lies near the exact angles for the positions of ordinary rows", () => {
  const config = { ...ODD_CONFIG, headDim: 10 };
  const positions = 1000;
  const table = ropeTable(config, positions);
  const turn = exactTurn(10, config.rope);
  const exact = Array.from({ length: positions * 5 }, (_, i) => turn(Math.floor(i / 5), i % 5)).flatMap(
    ({ cos, sin }) => [cos, sin],
  );
  expect(table.length).toBe(exact.length);
  // An angle of up to 1000, rounded in its frequency and in its product.
  expect(absoluteError(table, exact)).toBeLessThan(2 * 1000 * F32_ROUNDING);
});
