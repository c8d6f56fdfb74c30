import { describe, expect, it, type TestContext } from "vitest";
import type { Command } from "../../src/gpu/commands.ts";
import type { RowCount } from "../../src/gpu/count.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { swigluForward } from "../../src/ops/elementwise.ts";
import { candidateShapes } from "../../src/ops/fragment-shapes.ts";
import { createHalfRows, type HalfRows, packRows, packSwiglu } from "../../src/ops/half-rows.ts";
import { matmulNN, matmulNT } from "../../src/ops/matmul.ts";
import type { Matrix } from "../../src/ops/matrix.ts";
import { tensorProduct } from "../../src/ops/tensor.ts";
import { f16ToNumber, numberToF16 } from "../../src/weights/half.ts";
import { useDevice } from "../device.ts";
import { firstDifference, type Numbers, relativeError, seededNumbers } from "../numbers.ts";
import { addScaled, matmulNN as referenceNN, matmulNT as referenceNT } from "../reference/matmul.ts";
import { rowFactors } from "../reference/pack.ts";
import {
  changedMatrix,
  constantMatrix,
  denseRows,
  expectRows,
  inputMatrix,
  inputWeight,
  inputWords,
  outputMatrix,
  rowCount,
  run,
  UNTOUCHED,
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

/** A left factor, and what makes it one in f16. */
function leftFactor(gpu: Gpu, count: RowCount, values: Float32Array, cols: number) {
  const x = inputMatrix(gpu, count, values, cols);
  const half = createHalfRows(gpu, "half", count.max, cols);
  for (const { buffer } of [half.range, half.factor])
    gpu.write(buffer, 0, new Uint32Array(buffer.sizeBytes / 4).fill(UNTOUCHED));
  return { x, ...packRows(gpu, count, x, half) };
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
    const { pack } = packRows(gpu, count, inputMatrix(gpu, count, x, cols), half);
    const [packed, factors] = await run(gpu, [pack], outputs);

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

it("elementwise/pack_rows packs SwiGLU's product as if it had been written in f32 first", async (context) => {
  const { gpu } = device;
  requireMatrices(gpu, context);
  for (const [rows, cols] of [
    [1, 8],
    [9, 65],
    [7, 520],
  ] as const) {
    const random = seededNumbers(cols);
    const count = rowCount(gpu, rows);
    const [gate, up] = [3, 1].map((deviation) => {
      return inputMatrix(gpu, count, random.normals(rows * cols, deviation), cols);
    }) as [Matrix, Matrix];
    const product = outputMatrix(gpu, count, cols);
    const packInto = async (packing: (half: HalfRows) => readonly Command[]) => {
      const half = createHalfRows(gpu, "half", count.max, cols);
      const outputs = [half.range, half.factor].map((range) => ({
        range,
        before: new Uint32Array(range.sizeBytes / 4).fill(0x7fc0beef),
      }));
      return run(gpu, packing(half), outputs);
    };
    const atOnce = await packInto((half) => [packSwiglu(gpu, count, gate, up, half).pack]);
    const inTwo = await packInto((half) => [
      ...swigluForward(gpu, { count, gate, up, y: product }),
      packRows(gpu, count, product, half).pack,
    ]);
    for (const [i, bits] of inTwo.entries()) expect(firstDifference(atOnce[i]!, bits)).toBe(-1);
  }
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
      const { pack, ...left } = leftFactor(gpu, count, x!, k);
      const commands = matmulNT(gpu, {
        count,
        ...left,
        w,
        y,
        lora: rank > 0 ? { u: inputMatrix(gpu, count, u!, rank), b: constantMatrix(gpu, b!, n, rank) } : undefined,
        residual: inputMatrix(gpu, count, r!, n),
      });
      expect(commands.map((command) => command.kind === "dispatch" && command.label)).toContain("matmul/tensor");
      const [bits] = await run(gpu, [pack, ...commands], [y]);
      let expected: Numbers = addScaled(referenceNT(x!, weights, { m, n, k }), r!);
      if (rank > 0) expected = addScaled(expected, referenceNT(u!, b!, { m, n, k: rank }));
      expectRows(bits!, y, expected, TOLERANCE);
    }
  });
});

describe("matmul/tensor, LoRA's first products", () => {
  it.for([3, 8, 33, 64, 72])("X·Aᵀ and dY·B, rank %i", async (rank, context) => {
    const { gpu } = device;
    requireMatrices(gpu, context);
    const [m, width] = [130, 200];
    // Rows of every size beside each other: the gradient of one answer is about 1e-9 of a weight, products reach 30,000.
    const sizes = [1e-9, 1, 0, 500, 30_000].map((size) => size / 5);
    const x = seededNumbers(rank)
      .normals(m * width)
      .map((value, i) => value * sizes[Math.floor(i / width) % 5]!);
    // A is about 1 / √width, B 1e-6 after the first steps.
    const a = seededNumbers(1).normals(rank * width, 0.1);
    const b = seededNumbers(2).normals(width * rank, 2e-6);
    const count = rowCount(gpu, m);
    const { pack, ...left } = leftFactor(gpu, count, x, width);
    const [u, dU] = [outputMatrix(gpu, count, rank), outputMatrix(gpu, count, rank)];
    const commands = [
      pack,
      ...matmulNT(gpu, { count, ...left, w: constantMatrix(gpu, a, rank, width), y: u, scale: 2 }),
      ...matmulNN(gpu, { count, ...left, w: constantMatrix(gpu, b, width, rank), y: dU, scale: 0.3, prior: "drop" }),
    ];
    expect(commands.map((command) => command.kind === "dispatch" && command.label)).toEqual([
      "elementwise/pack_rows",
      "matmul/tensor",
      "matmul/tensor",
    ]);
    const [uBits, dUBits] = await run(gpu, commands, [u, dU]);
    const scaled = (values: Float64Array, factor: number) => values.map((value) => value * factor);
    const [foundU, foundDU] = [denseRows(uBits!, u), denseRows(dUBits!, dU)];
    const expectedU = scaled(referenceNT(x, a, { m, n: rank, k: width }), 2);
    const expectedDU = scaled(referenceNN(x, b, { m, n: width, k: rank }), 0.3);
    // Rows of one size at a time, or the largest would hide the others.
    for (const [size] of sizes.entries()) {
      const of = (values: Float32Array | Float64Array) => values.filter((_, i) => Math.floor(i / rank) % 5 === size);
      expect(relativeError(of(foundU), of(expectedU))).toBeLessThan(TOLERANCE);
      expect(relativeError(of(foundDU), of(expectedDU))).toBeLessThan(TOLERANCE);
    }
  });
});

describe("matmul/tensor in every shape that fits", () => {
  // A large weight with LoRA's second product, and LoRA's first, whose factor is f32.
  it.for([
    { kind: "nt", n: 130, k: 72, rank: 8 },
    { kind: "nn", n: 130, k: 72, rank: 8 },
    { kind: "nt", n: 8, k: 200, rank: 0 },
    { kind: "nn", n: 8, k: 200, rank: 0 },
  ] as const)("$kind, $k to $n: the same bits", { timeout: 300_000 }, async ({ kind, n, k, rank }, context) => {
    const { gpu } = device;
    requireMatrices(gpu, context);
    const m = 70;
    const shapes = candidateShapes(gpu.fragments!, { kind, m, n, k });
    expect(shapes.some(({ step }) => step === 64)).toBe(true);
    const [x, weights] = [seededNumbers(1).normals(m * k), f16Numbers(2, n * k)];
    const [u, v] = [seededNumbers(3).normals(m * rank), seededNumbers(4).normals(n * rank)];
    const transposed = kind === "nt";
    const by = (length: number): [number, number] => (transposed ? [n, length] : [length, n]);
    const format = rank > 0 ? "f16" : "f32";
    const w = inputWeight(gpu, format, weights, ...by(k)).parts[0]!.range;
    const multiply = (left: Float32Array, right: Float32Array, length: number) =>
      transposed ? referenceNT(left, right, { m, n, k: length }) : referenceNN(left, right, { m, n: length, k: n });
    const expected = addScaled(multiply(x, weights, k), multiply(u, v, rank));
    let first: Uint32Array | undefined;
    for (const shape of shapes) {
      const count = rowCount(gpu, m);
      const { pack, packed } = leftFactor(gpu, count, x, k);
      const y = outputMatrix(gpu, count, n);
      const lora = { u: inputMatrix(gpu, count, u, rank).range, v: constantMatrix(gpu, v, ...by(rank)).range, rank };
      const product = tensorProduct(gpu, {
        count,
        x: packed,
        firstXColumn: 0,
        k,
        n,
        w,
        format,
        transposed,
        lora: rank > 0 ? lora : null,
        addition: { kind: "none" },
        y,
        firstYColumn: 0,
        scale: 1,
        shape,
      });
      const [bits] = await run(gpu, [pack, product], [y]);
      expectRows(bits!, y, expected, TOLERANCE);
      first ??= bits!;
      expect(firstDifference(bits!, first)).toBe(-1);
    }
  });

  it("whose many tiles are taken in bands", async (context) => {
    const { gpu } = device;
    requireMatrices(gpu, context);
    // 18 rows of tiles of 32: one band of 16, and one of 2.
    const [m, n, k] = [570, 72, 8];
    const [x, weights] = [seededNumbers(1).normals(m * k), f16Numbers(2, n * k)];
    const count = rowCount(gpu, m);
    const { pack, ...left } = leftFactor(gpu, count, x, k);
    const y = outputMatrix(gpu, count, n);
    const commands = matmulNT(gpu, { count, ...left, w: inputWeight(gpu, "f16", weights, n, k), y });
    const [bits] = await run(gpu, [pack, ...commands], [y]);
    expectRows(bits!, y, referenceNT(x, weights, { m, n, k }), TOLERANCE);
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
    const { pack, ...left } = leftFactor(gpu, count, x!, k);
    const commands = matmulNT(gpu, {
      count,
      ...left,
      w: inputWeight(gpu, "f16", new Float32Array(n * k), n, k),
      y,
      lora: { u: inputMatrix(gpu, count, u!, rank), b: constantMatrix(gpu, small, n, rank) },
    });
    const [bits] = await run(gpu, [pack, ...commands], [y]);
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
      const { pack, ...left } = leftFactor(gpu, count, dy!, n);
      const commands = matmulNN(gpu, {
        count,
        ...left,
        w,
        y: dx,
        lora: rank > 0 ? { u: inputMatrix(gpu, count, u!, rank), a: constantMatrix(gpu, a!, rank, k) } : undefined,
        prior: i % 2 === 0 ? "add" : { rowScale: inputWords(gpu, paddedScale) },
      });
      const [bits] = await run(gpu, [pack, ...commands], [dx]);
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
    const [forwardLeft, backwardLeft] = [leftFactor(gpu, count, x!, k), leftFactor(gpu, count, dy!, n)];
    const y = outputMatrix(gpu, count, n);
    const dx = outputMatrix(gpu, count, k);
    const ofForward = matmulNT(gpu, { count, x: forwardLeft.x, packed: forwardLeft.packed, w, y });
    const ofBackward = matmulNN(gpu, {
      count,
      x: backwardLeft.x,
      packed: backwardLeft.packed,
      w,
      y: dx,
      prior: "drop",
    });
    const [forward] = await run(gpu, [forwardLeft.pack, ...ofForward], [y]);
    const [backward] = await run(gpu, [backwardLeft.pack, ...ofBackward], [dx]);
    expectRows(forward!, y, referenceNT(x!, weights, { m, n, k }), TOLERANCE);
    expectRows(backward!, dx, referenceNN(dy!, weights, { m, n, k }), TOLERANCE);
  });
});
