import { describe, expect, it, type TestContext } from "vitest";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { candidateShapes } from "../../src/ops/fragment-shapes.ts";
import type { FragmentShape } from "../../src/ops/fragments.ts";
import { createHalfRows, packRows } from "../../src/ops/half-rows.ts";
import { PeakSlots } from "../../src/ops/peak.ts";
import { createGradientWorkspace, tensorGradient } from "../../src/ops/tensor-gradient.ts";
import { useDevice } from "../device.ts";
import { firstDifference, seededNumbers } from "../numbers.ts";
import { addScaled, matmulTN } from "../reference/matmul.ts";
import { denseRows, expectRows, inputMatrix, rowCount, run, sumMatrix, UNTOUCHED } from "./harness.ts";

// matmul/tensor_tn and matmul/add_slices: a factor's gradient on subgroup matrices. A device without any (SwiftShader) shows
// these tests as skipped.

const device = useDevice();

/** Relative by norm, of f16 storage with f32 sums. */
const TOLERANCE = 1e-3;

function requireMatrices({ fragments }: Gpu, { skip }: TestContext): void {
  skip(!fragments, "the device has no subgroup matrices with f16 factors");
}

interface Gradient {
  readonly rows: number;
  readonly widest: number;
  readonly rank: number;
  readonly narrowIsLeft: boolean;
  /** (rows, widest) and (rows, rank). */
  readonly wide: Float32Array;
  readonly narrow: Float32Array;
}

function randomGradient(sizes: Omit<Gradient, "wide" | "narrow">): Gradient {
  const random = seededNumbers(sizes.rows + sizes.widest);
  const [wide, narrow] = [sizes.widest, sizes.rank].map((cols) => random.normals(sizes.rows * cols));
  return { ...sizes, wide: wide!, narrow: narrow! };
}

async function runGradient(gpu: Gpu, op: Gradient, shape?: FragmentShape, before?: Float32Array) {
  const { rows, widest, rank, narrowIsLeft } = op;
  const count = rowCount(gpu, rows);
  const wide = inputMatrix(gpu, count, op.wide, widest);
  const half = createHalfRows(gpu, "half", count.max, widest);
  const peaks = new PeakSlots(gpu, 1);
  const workspace = createGradientWorkspace(gpu, count.max, widest, rank, peaks);
  for (const { buffer } of [half.range, half.factor, workspace.slices]) {
    gpu.write(buffer, 0, new Uint32Array(buffer.sizeBytes / 4).fill(UNTOUCHED));
  }
  const { pack, packed } = packRows(gpu, count, wide, half);
  const [i, j] = narrowIsLeft ? [rank, widest] : [widest, rank];
  const y = sumMatrix(gpu, before ?? new Float32Array(i * j), i, j);
  const narrow = inputMatrix(gpu, count, op.narrow, rank);
  const commands = tensorGradient(gpu, { count, wide: packed, narrow, narrowIsLeft, y, workspace, shape });
  const labels = commands.flatMap((command) => (command.kind === "dispatch" ? [command.label] : []));
  const [bits] = await run(gpu, [peaks.clear, pack, ...commands], [y]);
  return { bits: bits!, y, isSliced: labels.includes("matmul/add_slices") };
}

function expectedOf({ rows: t, widest, rank, narrowIsLeft, wide, narrow }: Gradient) {
  return narrowIsLeft
    ? matmulTN(narrow, wide, { t, i: rank, j: widest })
    : matmulTN(wide, narrow, { t, i: widest, j: rank });
}

describe.each([
  { name: "dYᵀ·U", narrowIsLeft: false },
  { name: "dUᵀ·X", narrowIsLeft: true },
])("$name", ({ narrowIsLeft }) => {
  it.for([
    [1, 40, 3],
    [7, 72, 8],
    [65, 37, 16],
    [130, 129, 33],
    [130, 136, 72],
    [700, 72, 8],
    [1030, 64, 32],
  ] as const)("%i rows, %i wide, rank %i, added to what is there", async ([rows, widest, rank], context) => {
    const { gpu } = device;
    requireMatrices(gpu, context);
    const op = randomGradient({ rows, widest, rank, narrowIsLeft });
    const before = seededNumbers(1).normals(widest * rank);
    const { bits, y, isSliced } = await runGradient(gpu, op, undefined, before);
    expect(isSliced).toBe(rows > 500);
    expectRows(bits, y, addScaled(before, expectedOf(op)), TOLERANCE);
  });

  // The gradient of one answer is about 1e-9 of a weight; the residual stream peaks at 500, and products reach 30,000.
  it.for([
    [1e-9, 1],
    [1e-9, 1e-9],
    [500, 500],
    [30_000, 30_000],
    [1e-9, 30_000],
    [1e15, 1e-30],
  ] as const)("rows of %f, and of %f in the factor", async ([wideSize, narrowSize], context) => {
    const { gpu } = device;
    requireMatrices(gpu, context);
    const op = randomGradient({ rows: 130, widest: 72, rank: 8, narrowIsLeft });
    const { bits, y } = await runGradient(gpu, {
      ...op,
      wide: op.wide.map((value) => value * wideSize),
      narrow: op.narrow.map((value) => value * narrowSize),
    });
    const expected = expectedOf(op).map((value) => value * wideSize * narrowSize);
    expectRows(bits, y, expected, TOLERANCE);
  });

  it("rows of every size beside each other", async (context) => {
    const { gpu } = device;
    requireMatrices(gpu, context);
    const op = randomGradient({ rows: 130, widest: 72, rank: 8, narrowIsLeft });
    const sizes = [1e-9, 1, 0, 500, 30_000];
    for (let i = 0; i < op.wide.length; i++) op.wide[i]! *= sizes[Math.floor(i / 72) % 5]!;
    for (let i = 0; i < op.narrow.length; i++) op.narrow[i]! *= sizes[Math.floor(i / 8) % 3]!;
    const { bits, y } = await runGradient(gpu, op);
    expectRows(bits, y, expectedOf(op), TOLERANCE);
  });

  it("is zero where either is", async (context) => {
    const { gpu } = device;
    requireMatrices(gpu, context);
    const op = randomGradient({ rows: 9, widest: 72, rank: 8, narrowIsLeft });
    for (const zero of ["wide", "narrow"] as const) {
      const { bits, y } = await runGradient(gpu, { ...op, [zero]: new Float32Array(op[zero].length) });
      expect(denseRows(bits, y).every((value) => value === 0)).toBe(true);
    }
  });

  it.for([Number.NaN, Number.POSITIVE_INFINITY])("does not lose a %f in either", async (value, context) => {
    const { gpu } = device;
    requireMatrices(gpu, context);
    for (const rows of [9, 700]) {
      for (const place of ["wide", "narrow"] as const) {
        const op = randomGradient({ rows, widest: 72, rank: 8, narrowIsLeft });
        op[place][op[place].length - 3] = value;
        const { bits, y } = await runGradient(gpu, op);
        expect(denseRows(bits, y).some((element) => !Number.isFinite(element))).toBe(true);
      }
    }
  });
});

describe("every shape that fits", () => {
  it.for([8, 33])("rank %i, in slices: the same bits", { timeout: 300_000 }, async (rank, context) => {
    const { gpu } = device;
    requireMatrices(gpu, context);
    for (const narrowIsLeft of [true, false]) {
      const op = randomGradient({ rows: 700, widest: 136, rank, narrowIsLeft });
      const [m, n] = narrowIsLeft ? [rank, op.widest] : [op.widest, rank];
      const shapes = candidateShapes(gpu.fragments!, { kind: "tn", m, n, k: op.rows });
      expect(shapes.some(({ step }) => step === 64)).toBe(true);
      let first: Uint32Array | undefined;
      for (const shape of shapes) {
        const { bits, y, isSliced } = await runGradient(gpu, op, shape);
        expect(isSliced).toBe(true);
        expectRows(bits, y, expectedOf(op), TOLERANCE);
        first ??= bits;
        expect(firstDifference(bits, first)).toBe(-1);
      }
    }
  });
});

describe("its workspace", () => {
  it("bounds the slices", async (context) => {
    const { gpu } = device;
    requireMatrices(gpu, context);
    const op = randomGradient({ rows: 1030, widest: 64, rank: 8, narrowIsLeft: false });
    const peaks = new PeakSlots(gpu, 3);
    const whole = createGradientWorkspace(gpu, op.rows, op.widest, op.rank, peaks);
    expect(whole.slices.sizeBytes).toBeGreaterThan(2 * 64 * 8 * 4);
    const count = rowCount(gpu, op.rows);
    const { pack, packed } = packRows(
      gpu,
      count,
      inputMatrix(gpu, count, op.wide, op.widest),
      createHalfRows(gpu, "half", count.max, op.widest),
    );
    const narrow = inputMatrix(gpu, count, op.narrow, op.rank);
    for (const slices of [1, 2, 3]) {
      const y = sumMatrix(gpu, new Float32Array(64 * 8), 64, 8);
      const range = { buffer: whole.slices.buffer, offsetBytes: 0, sizeBytes: slices * 64 * 8 * 4 + 16 };
      const workspace = { ...whole, slices: range };
      const commands = tensorGradient(gpu, { count, wide: packed, narrow, narrowIsLeft: false, y, workspace });
      const product = commands.find((command) => command.kind === "dispatch" && command.label === "matmul/tensor_tn");
      expect(product?.kind === "dispatch" && product.workgroups()[2]).toBe(slices);
      const [bits] = await run(gpu, [peaks.clear, pack, ...commands], [y]);
      expectRows(bits!, y, expectedOf(op), TOLERANCE);
    }
  });
});
