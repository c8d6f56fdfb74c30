import { describe, expect, it, type TestContext } from "vitest";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { matmulNN, matmulNT } from "../../src/ops/matmul.ts";
import { createHalfRows, packRows } from "../../src/ops/tensor.ts";
import { f16ToNumber, numberToF16 } from "../../src/weights/half.ts";
import { useDevice } from "../device.ts";
import { type Numbers, seededNumbers } from "../numbers.ts";
import { addScaled, matmulNN as referenceNN, matmulNT as referenceNT } from "../reference/matmul.ts";
import { rowFactors } from "../reference/pack.ts";
import {
  changedMatrix,
  constantMatrix,
  expectRows,
  inputMatrix,
  inputWeight,
  inputWords,
  outputMatrix,
  rowCount,
  run,
} from "./harness.ts";

// Products on subgroup matrices. A device without any (SwiftShader) shows these tests as skipped.

const device = useDevice();
/** One part of an f16 weight with 72 columns has 64 rows. */
const small = useDevice({ bindingLimitBytes: 64 * 1024 });

/** Relative by norm, of f16 storage with f32 sums. */
const TOLERANCE = 1e-3;
const ROWS = [1, 7, 65, 130];

/** Shows a test as skipped on a device without subgroup matrices: nothing can be multiplied on them there. */
function requireMatrices({ fragments }: Gpu, { skip }: TestContext): void {
  skip(!fragments, "the device has no subgroup matrices with f16 factors");
}

function f16Numbers(seed: number, length: number): Float32Array<ArrayBuffer> {
  return seededNumbers(seed)
    .normals(length)
    .map((value) => f16ToNumber(numberToF16(value)));
}

/** (in, out, rank), with factors of 8 and of 32 and without. */
const SHAPES = [
  [64, 64, 0],
  [40, 72, 8],
  [65, 37, 3],
  [192, 200, 16],
  [31, 129, 33],
] as const;

describe("elementwise/pack_rows", () => {
  it.for([8, 65, 520])("%i columns", async (cols, context) => {
    const { gpu } = device;
    requireMatrices(gpu, context);
    const rows = 9;
    // Rows from 1e-12 to 3e4, and one of zeros.
    const x = seededNumbers(3)
      .normals(rows * cols)
      .map((value, i) => (Math.floor(i / cols) === 4 ? 0 : value * 10 ** (2 * Math.floor(i / cols) - 12)));
    const count = rowCount(gpu, rows);
    const half = createHalfRows(gpu, "half", count.max, cols);
    const outputs = [half.range, half.factor].map((range) => ({
      range,
      before: new Uint32Array(range.sizeBytes / 4).fill(0x7fc0beef),
    }));
    const [packed, factors] = await run(gpu, [packRows(gpu, count, inputMatrix(gpu, count, x, cols), half)], outputs);

    const expectedFactors = rowFactors(x, rows, cols);
    const stride = Math.ceil(cols / 8) * 8;
    const halves = new Uint16Array(packed!.buffer);
    for (let row = 0; row < rows; row++) {
      expect(new Float32Array(factors!.buffer)[row]).toBe(expectedFactors[row]);
      for (let c = 0; c < stride; c++) {
        const exact = c < cols ? x[row * cols + c]! / expectedFactors[row]! : 0;
        const found = f16ToNumber(halves[row * stride + c]!);
        // Half a unit of f16's 11 digits, or a whole one where the driver rounds towards zero; 2^-24 for subnormals.
        expect(Math.abs(found - exact)).toBeLessThanOrEqual(Math.max(2 ** -10 * Math.abs(exact), 2 ** -14));
      }
    }
  });
});

describe("matmul/tensor, X·Wᵀ", () => {
  it.for(SHAPES)("%i to %i, rank %i", async ([k, n, rank], context) => {
    const { gpu } = device;
    requireMatrices(gpu, context);
    const weights = f16Numbers(1, n * k);
    const w = inputWeight(gpu, "f16", weights, n, k);
    for (const m of ROWS) {
      const random = seededNumbers(m);
      const [x, u, b, r] = [m * k, m * rank, n * rank, m * n].map((length) => random.normals(length)) as Float32Array[];
      // B as small as after a first step.
      for (let i = 0; i < b!.length; i++) b![i]! *= 2e-6;
      for (let i = 0; i < r!.length; i++) r![i]! *= 1e-3;
      const count = rowCount(gpu, m);
      const y = outputMatrix(gpu, count, n);
      const commands = matmulNT(gpu, {
        count,
        x: inputMatrix(gpu, count, x!, k),
        w,
        y,
        half: createHalfRows(gpu, "half", count.max, k),
        lora: rank > 0 ? { u: inputMatrix(gpu, count, u!, rank), b: constantMatrix(gpu, b!, n, rank) } : undefined,
        residual: inputMatrix(gpu, count, r!, n),
      });
      expect(commands.map((command) => command.kind === "dispatch" && command.label)).toContain("matmul/tensor");
      const [bits] = await run(gpu, commands, [y]);
      let expected: Numbers = addScaled(referenceNT(x!, weights, { m, n, k }), r!);
      if (rank > 0) expected = addScaled(expected, referenceNT(u!, b!, { m, n, k: rank }));
      expectRows(bits!, y, expected, TOLERANCE);
    }
  });
});

describe("matmul/tensor, LoRA's product alone", () => {
  it.for([1, 2e-6, 1e-7])("keeps its digits with B of %f", async (size, context) => {
    const { gpu } = device;
    requireMatrices(gpu, context);
    const [m, n, k, rank] = [13, 72, 40, 16];
    const [x, u, b] = [m * k, m * rank, n * rank].map((length, i) =>
      seededNumbers(i).normals(length),
    ) as Float32Array[];
    const small = b!.map((value) => value * size);
    const count = rowCount(gpu, m);
    const y = outputMatrix(gpu, count, n);
    const commands = matmulNT(gpu, {
      count,
      x: inputMatrix(gpu, count, x!, k),
      w: inputWeight(gpu, "f16", new Float32Array(n * k), n, k),
      y,
      half: createHalfRows(gpu, "half", count.max, k),
      lora: { u: inputMatrix(gpu, count, u!, rank), b: constantMatrix(gpu, small, n, rank) },
    });
    const [bits] = await run(gpu, commands, [y]);
    expectRows(bits!, y, referenceNT(u!, small, { m, n, k: rank }), TOLERANCE);
  });
});

describe("matmul/tensor, dY·W", () => {
  // The gradient of one answer is about 1e-9 of a weight; the residual stream peaks at 500, and products reach 30,000.
  const PEAKS = [1e-9, 1, 500, 30_000];

  it.for(SHAPES)("%i from %i, rank %i", async ([k, n, rank], context) => {
    const { gpu } = device;
    requireMatrices(gpu, context);
    const weights = f16Numbers(1, n * k);
    const w = inputWeight(gpu, "f16", weights, n, k);
    for (const [i, m] of ROWS.entries()) {
      const peak = PEAKS[i]!;
      const random = seededNumbers(m);
      const [dy, u, a, before, rowScale] = [m * n, m * rank, rank * k, m * k, m].map((length) =>
        random.normals(length),
      ) as Float32Array<ArrayBuffer>[];
      for (const values of [dy!, u!, before!]) for (let j = 0; j < values.length; j++) values[j]! *= peak / 5;
      const count = rowCount(gpu, m);
      const dx = changedMatrix(gpu, count, before!, k);
      const paddedScale = new Float32Array(Math.ceil(count.max / 4) * 4);
      paddedScale.set(rowScale!);
      const commands = matmulNN(gpu, {
        count,
        x: inputMatrix(gpu, count, dy!, n),
        w,
        y: dx,
        half: createHalfRows(gpu, "half", count.max, n),
        lora: rank > 0 ? { u: inputMatrix(gpu, count, u!, rank), a: constantMatrix(gpu, a!, rank, k) } : undefined,
        prior: i % 2 === 0 ? "add" : { rowScale: inputWords(gpu, paddedScale) },
      });
      const [bits] = await run(gpu, commands, [dx]);
      const start = before!.map((value, j) => (i % 2 === 0 ? value : value * rowScale![Math.floor(j / k)]!));
      let expected: Numbers = addScaled(start, referenceNN(dy!, weights, { m, n, k }));
      if (rank > 0) expected = addScaled(expected, referenceNN(u!, a!, { m, n: rank, k }));
      expectRows(bits!, dx, expected, TOLERANCE);
    }
  });

  it("with a weight in parts, both ways", async (context) => {
    const { gpu } = small;
    requireMatrices(gpu, context);
    const [m, n, k] = [13, 700, 72];
    const weights = f16Numbers(1, n * k);
    const w = inputWeight(gpu, "f16", weights, n, k);
    expect(w.parts.length).toBeGreaterThan(1);
    const [x, dy] = [m * k, m * n].map((length, i) => seededNumbers(i).normals(length)) as Float32Array[];
    const count = rowCount(gpu, m);
    const half = createHalfRows(gpu, "half", count.max, n);
    const y = outputMatrix(gpu, count, n);
    const dx = outputMatrix(gpu, count, k);
    const [forward] = await run(gpu, matmulNT(gpu, { count, x: inputMatrix(gpu, count, x!, k), w, y, half }), [y]);
    const [backward] = await run(
      gpu,
      matmulNN(gpu, { count, x: inputMatrix(gpu, count, dy!, n), w, y: dx, half, prior: "drop" }),
      [dx],
    );
    expectRows(forward!, y, referenceNT(x!, weights, { m, n, k }), TOLERANCE);
    expectRows(backward!, dx, referenceNN(dy!, weights, { m, n, k }), TOLERANCE);
  });
});
