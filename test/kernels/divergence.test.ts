import { describe, expect, it } from "vitest";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { divergenceOfRows, headDivergence } from "../../src/ops/head.ts";
import type { WeightFormat } from "../../src/ops/matrix.ts";
import { useDevice } from "../device.ts";
import { absoluteError, KERNEL_TOLERANCE, roundedToBf16, seededNumbers } from "../numbers.ts";
import * as reference from "../reference/head.ts";
import {
  denseWords,
  inputMatrix,
  inputWeight,
  outputMatrix,
  outputWords,
  rowCount,
  run,
  withLanes,
} from "./harness.ts";

// head/divergence, with the logits of policy and reference that matmul/nt makes for it.

const device = useDevice();
/** One part holds at most 64 rows of a (·, 36) head in f32. */
const small = useDevice({ bindingLimitBytes: 64 * 40 * 4 });

interface DivergenceCase {
  readonly cols: number;
  readonly format: WeightFormat;
  /** (rows, cols), of the policy and of the reference. */
  readonly hidden: Float32Array;
  readonly hiddenReference: Float32Array;
  /** (vocab, cols), exact in `format`. */
  readonly w: Float32Array;
}

/** Logits with a deviation of about 2; the reference's differ by about `distance` of that. */
function randomCase(
  rows: number,
  { cols, vocab, format, distance }: { cols: number; vocab: number; format: WeightFormat; distance: number },
): DivergenceCase {
  const random = seededNumbers(rows * vocab);
  const w = random.normals(vocab * cols, 2 / Math.sqrt(cols));
  const hidden = random.normals(rows * cols);
  const movement = random.normals(rows * cols, distance);
  const hiddenReference = hidden.map((value, i) => value + movement[i]!);
  return { cols, format, hidden, hiddenReference, w: format === "bf16" ? roundedToBf16(w) : w };
}

/** KL of every row on the GPU, in chunks of at most `chunk` tokens. */
async function divergenceOnGpu(gpu: Gpu, of: DivergenceCase, chunk: number): Promise<Float64Array> {
  const { cols, format, hidden, hiddenReference, w } = of;
  const count = rowCount(gpu, hidden.length / cols);
  const [logits, logitsReference] = [outputMatrix(gpu, count, chunk), outputMatrix(gpu, count, chunk)];
  const state = outputWords(gpu, count, 8);
  const commands = headDivergence(gpu, {
    count,
    hidden: inputMatrix(gpu, count, hidden, cols),
    hiddenReference: inputMatrix(gpu, count, hiddenReference, cols),
    w: inputWeight(gpu, format, w, w.length / cols, cols),
    logits,
    logitsReference,
    state: state.range,
  });
  const [bits] = await run(gpu, commands, [state, logits, logitsReference]);
  return divergenceOfRows(denseWords(bits!, state, count, 8));
}

function expectedDivergence({ cols, hidden, hiddenReference, w }: DivergenceCase): Float64Array {
  const [policy, base] = [hidden, hiddenReference].map((rows) => reference.headForward(rows, w, cols).logps);
  return reference.divergence(policy!, base!, w.length / cols);
}

describe("head/divergence against a float64 KL over the whole vocabulary", () => {
  it.each([
    { vocab: 1, cols: 7, format: "f32", chunk: 64 },
    { vocab: 64, cols: 36, format: "bf16", chunk: 64 },
    { vocab: 130, cols: 65, format: "f32", chunk: 64 },
    { vocab: 401, cols: 36, format: "bf16", chunk: 200 },
    { vocab: 401, cols: 36, format: "f32", chunk: 448 },
  ] as const)("$vocab tokens in chunks of $chunk, $cols wide, $format", async ({ chunk, ...sizes }) => {
    for (const rows of [1, 7, 65]) {
      for (const distance of [1, 1e-2]) {
        const of = randomCase(rows, { ...sizes, distance });
        const expected = expectedDivergence(of);
        expect(sizes.vocab === 1 || Math.min(...expected) > distance ** 2 / 10).toBe(true);
        // WGSL allows exp(x) an error of 3 + 2|x| units in the last place: about 1e-6 of either sum of exponentials.
        const error = absoluteError(await divergenceOnGpu(device.gpu, of, chunk), expected);
        expect(error, `${rows} rows at ${distance}`).toBeLessThan(4 * KERNEL_TOLERANCE * Math.max(...expected, 0.25));
      }
    }
  });

  it.each([4, 8, 64])("with reductions of %i lanes", async (lanes) => {
    const of = randomCase(9, { vocab: 130, cols: 65, format: "f32", distance: 1 });
    const error = absoluteError(await divergenceOnGpu(withLanes(device.gpu, lanes), of, 64), expectedDivergence(of));
    expect(error).toBeLessThan(4 * KERNEL_TOLERANCE);
  });

  it("with a weight in parts", async () => {
    const of = randomCase(9, { vocab: 401, cols: 36, format: "f32", distance: 1 });
    expect(absoluteError(await divergenceOnGpu(small.gpu, of, 128), expectedDivergence(of))).toBeLessThan(
      4 * KERNEL_TOLERANCE,
    );
  });

  it.each([64, 200, 448])("is exactly 0 of a policy that is the reference, chunks of %i", async (chunk) => {
    const of = randomCase(9, { vocab: 401, cols: 36, format: "bf16", distance: 0 });
    expect(await divergenceOnGpu(device.gpu, of, chunk)).toEqual(new Float64Array(9));
  });
});

describe("large logits", () => {
  const [cols, vocab, rows] = [36, 401, 8];

  /** Small integers, and one column whose logits are 0 or ±`size`: exact in f32, so nothing is lost to rounding. */
  function largeCase(size: number): DivergenceCase {
    const random = seededNumbers(size);
    const [hidden, hiddenReference] = [random.integers(rows * cols, -1, 1), random.integers(rows * cols, -1, 1)];
    const w = random.integers(vocab * cols, -1, 1);
    for (let token = 0; token < vocab; token++) w[token * cols] = random.integer(-1, 1);
    // The policy and the reference agree on what is large, or not; in the last row all is ±size and 0.
    for (let row = 0; row < rows; row++) {
      hidden[row * cols] = size * ((row % 3) - 1);
      hiddenReference[row * cols] = size * ((row % 2) - 1);
    }
    hidden.fill(0, (rows - 1) * cols + 1);
    hiddenReference.fill(0, (rows - 1) * cols + 1);
    return { cols, format: "f32", hidden, hiddenReference, w };
  }

  it.each([500, 30_000])("of ±%i are finite and right", async (size) => {
    const of = largeCase(size);
    const expected = expectedDivergence(of);
    expect(Math.max(...expected)).toBeGreaterThan(size / 2);
    expect(Math.min(...expected)).toBeLessThan(20);
    for (const chunk of [64, 200, 448]) {
      const found = await divergenceOnGpu(device.gpu, of, chunk);
      for (const [row, value] of expected.entries()) {
        expect(Math.abs(found[row]! - value), `row ${row}`).toBeLessThan(4 * KERNEL_TOLERANCE * Math.max(value, 1));
      }
    }
  });

  it.each([500, 30_000])("that are all larger by %i than the reference's change nothing", async (shift) => {
    const random = seededNumbers(shift);
    const [hidden, hiddenReference] = [random.integers(rows * cols, -1, 1), random.integers(rows * cols, -1, 1)];
    const w = random.integers(vocab * cols, -1, 1);
    for (let token = 0; token < vocab; token++) w[token * cols] = 1;
    const expected = expectedDivergence({ cols, format: "f32", hidden, hiddenReference, w });
    for (let row = 0; row < rows; row++) hidden[row * cols]! += shift;
    for (const chunk of [64, 448]) {
      const found = await divergenceOnGpu(device.gpu, { cols, format: "f32", hidden, hiddenReference, w }, chunk);
      expect(absoluteError(found, expected)).toBeLessThan(4 * KERNEL_TOLERANCE * Math.max(...expected));
    }
  });
});
