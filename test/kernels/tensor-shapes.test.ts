import { describe, expect, it } from "vitest";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { candidateShapes, type ProductSizes } from "../../src/ops/fragment-shapes.ts";
import { type FragmentShape, workgroupBytes } from "../../src/ops/fragments.ts";
import { createHalfRows, packRows } from "../../src/ops/half-rows.ts";
import { PeakSlots } from "../../src/ops/peak.ts";
import { tensorProduct } from "../../src/ops/tensor.ts";
import { createGradientWorkspace, tensorGradient } from "../../src/ops/tensor-gradient.ts";
import { useDevice } from "../device.ts";
import { relativeError, seededNumbers } from "../numbers.ts";
import * as reference from "../reference/matmul.ts";
import { SUBGROUP_OF_32_MATRICES_OF_16, withEmulatedMatrices } from "./emulated-matrices.ts";
import { constantMatrix, denseRows, inputMatrix, outputMatrix, rowCount, run, sumMatrix } from "./harness.ts";

// matmul/tensor and matmul/tensor_tn in shapes of a GPU, on a device that has other subgroup matrices or none that a test
// asks for. A device without f16 (SwiftShader) shows these tests as skipped.

const device = useDevice();

/** Relative by norm, of f16 storage with f32 sums. */
const TOLERANCE = 1e-3;

/** Products of subgroup matrices that a shape takes between two barriers: the emulation compiles each of them. */
const FEW = 16;

function isSmall({ fragmentsM, fragmentsN, step, matrixK }: FragmentShape): boolean {
  return (fragmentsM * fragmentsN * step) / matrixK <= FEW;
}

/** A product without LoRA, and its result in float64. */
async function errorOf(gpu: Gpu, sizes: ProductSizes, shape: FragmentShape): Promise<number> {
  const { kind, m, n, k } = sizes;
  const random = seededNumbers(m + n + k);
  const [left, right] = [random.normals(m * k), random.normals(n * k)];
  if (kind === "tn") {
    const count = rowCount(gpu, k);
    const [wideIsLeft, wide, rank] = [m >= n, Math.max(m, n), Math.min(m, n)];
    const x = inputMatrix(gpu, count, wideIsLeft ? left : right, wide);
    const narrow = inputMatrix(gpu, count, wideIsLeft ? right : left, rank);
    const { pack, packed } = packRows(gpu, count, x, createHalfRows(gpu, "half", count.max, wide));
    const y = sumMatrix(gpu, new Float32Array(m * n), m, n);
    const peaks = new PeakSlots(gpu, 1);
    const workspace = createGradientWorkspace(gpu, count.max, wide, rank, peaks);
    const op = { count, wide: packed, narrow, narrowIsLeft: !wideIsLeft, y, workspace, shape };
    const [bits] = await run(gpu, [peaks.clear, pack, ...tensorGradient(gpu, op)], [y]);
    return relativeError(denseRows(bits!, y), reference.matmulTN(left, right, { t: k, i: m, j: n }));
  }
  const count = rowCount(gpu, m);
  const { pack, packed } = packRows(
    gpu,
    count,
    inputMatrix(gpu, count, left, k),
    createHalfRows(gpu, "half", count.max, k),
  );
  const y = outputMatrix(gpu, count, n);
  const product = tensorProduct(gpu, {
    count,
    x: packed,
    firstXColumn: 0,
    k,
    n,
    w: (kind === "nt" ? constantMatrix(gpu, right, n, k) : constantMatrix(gpu, right, k, n)).range,
    format: "f32",
    transposed: kind === "nt",
    lora: null,
    addition: { kind: "none" },
    y,
    firstYColumn: 0,
    scale: 1,
    shape,
  });
  const [bits] = await run(gpu, [pack, product], [y]);
  const expected =
    kind === "nt" ? reference.matmulNT(left, right, { m, n, k }) : reference.matmulNN(left, right, { m, n: k, k: n });
  return relativeError(denseRows(bits!, y), expected);
}

describe("16 x 16 x 16 matrices and subgroups of 32, emulated", () => {
  it.for([
    { kind: "nt", m: 70, n: 72, k: 72 },
    { kind: "nn", m: 70, n: 72, k: 72 },
    { kind: "nt", m: 70, n: 33, k: 136 },
    { kind: "nn", m: 70, n: 8, k: 136 },
    { kind: "tn", m: 136, n: 8, k: 70 },
    { kind: "tn", m: 8, n: 136, k: 600 },
  ] as const)("$kind, $m x $n x $k", { timeout: 300_000 }, async (sizes, { skip }) => {
    const { gpu } = device;
    skip(!gpu.fragments, "the device has no subgroup matrices with f16 factors");
    const emulated = withEmulatedMatrices(gpu, { ...gpu.fragments!, ...SUBGROUP_OF_32_MATRICES_OF_16 });
    const leftAndRightBytes = 2 * 16 * 16 * 4; // of each subgroup, for the emulation
    const shapes = candidateShapes(emulated.fragments!, sizes).filter(
      (shape) =>
        isSmall(shape) &&
        workgroupBytes(shape, sizes.kind) + shape.subgroupsM * shape.subgroupsN * leftAndRightBytes <=
          gpu.fragments!.workgroupBytes,
    );
    expect(shapes.length).toBeGreaterThan(0);
    for (const shape of shapes.slice(-1)) expect(await errorOf(emulated, sizes, shape)).toBeLessThan(TOLERANCE);
  });
});
