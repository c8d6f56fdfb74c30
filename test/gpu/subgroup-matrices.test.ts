import { describe, expect, it } from "vitest";
import type { FragmentUnit } from "../../src/gpu/fragment-unit.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { createPlanningGpu } from "../../src/gpu/planning-gpu.ts";
import { candidateShapes, shapeOf } from "../../src/ops/fragment-shapes.ts";
import { fragmentsOf, type ProductKind, tileOf, workgroupBytes } from "../../src/ops/fragments.ts";
import { fragmentUnitOf } from "../../src/platform/subgroup-matrices.ts";

const config = (M: number, N: number, K: number, componentType = "f16", resultComponentType = "f32") => ({
  M,
  N,
  K,
  componentType,
  resultComponentType,
});

function adapterWith(
  configs: object[] | undefined,
  features = ["shader-f16"],
  [subgroupMinSize, subgroupMaxSize] = [32, 32],
  workgroupKib = 48,
  maxStorageBuffersPerShaderStage = 16,
): GPUAdapter {
  const info = { subgroupMinSize, subgroupMaxSize, ...(configs && { subgroupMatrixConfigs: configs }) };
  const limits = {
    maxComputeWorkgroupStorageSize: workgroupKib * 1024,
    maxComputeInvocationsPerWorkgroup: 1024,
    maxStorageBuffersPerShaderStage,
  };
  return { info, limits, features: new Set(features) } as unknown as GPUAdapter;
}

/** Products of an 8B model with 8,192 rows: of its weights, of LoRA's first products, and of its factors' gradients. */
const WIDE = { kind: "nt", m: 8192, n: 14_336, k: 4096 } as const;
const PRODUCTS = [
  WIDE,
  { kind: "nn", m: 8192, n: 4096, k: 14_336 },
  ...[8, 32, 64].flatMap((rank) => [
    { kind: "nt", m: 8192, n: rank, k: 4096 } as const,
    { kind: "nn", m: 8192, n: rank, k: 14_336 } as const,
    { kind: "tn", m: 14_336, n: rank, k: 8192 } as const,
    { kind: "tn", m: rank, n: 4096, k: 8192 } as const,
  ]),
] as const;

/** A device of such matrices, as far as shapes ask for one. */
function gpuOf(fragments: FragmentUnit): Gpu {
  return createPlanningGpu({ bindingLimitBytes: 2 ** 31, subgroupSize: fragments.subgroupSize, fragments });
}

describe("fragmentUnitOf", () => {
  it("takes the largest matrices with f16 factors and f32 sums", () => {
    const adapter = adapterWith([
      config(16, 8, 16),
      config(16, 16, 16),
      config(32, 32, 16, "f16", "f16"),
      config(32, 32, 32, "u8", "u32"),
      config(128, 16, 16),
      config(12, 64, 16),
    ]);
    const unit = fragmentUnitOf(adapter)!;
    expect(unit).toEqual({
      matrixM: 16,
      matrixN: 16,
      matrixK: 16,
      subgroupSize: 32,
      workgroupBytes: 48 * 1024,
      workgroupInvocations: 1024,
    });
    expect(tileOf(shapeOf(gpuOf(unit), WIDE))).toEqual({ tileM: 128, tileN: 256 });
  });

  it("has smaller tiles where workgroup memory is short", () => {
    const unit = fragmentUnitOf(adapterWith([config(16, 16, 16)], ["shader-f16"], [32, 32], 32))!;
    expect(tileOf(shapeOf(gpuOf(unit), WIDE))).toEqual({ tileM: 128, tileN: 128 });
  });

  it.each([
    [8, 8, 8, 8],
    [8, 8, 8, 64],
    [16, 16, 16, 16],
    [16, 16, 16, 32],
    [16, 16, 16, 64],
    [16, 8, 16, 32],
    [16, 8, 8, 32],
  ])("has shapes for matrices of %i x %i x %i and subgroups of %i", (M, N, K, lanes) => {
    const unit = fragmentUnitOf(adapterWith([config(M, N, K)], ["shader-f16"], [lanes, lanes], 32))!;
    for (const sizes of PRODUCTS) {
      expect(candidateShapes(unit, sizes)).toContainEqual(shapeOf(gpuOf(unit), sizes));
      for (const shape of candidateShapes(unit, sizes)) {
        expect(workgroupBytes(shape, sizes.kind)).toBeLessThanOrEqual(32 * 1024);
      }
    }
  });

  it("takes a smaller tile where a large one leaves an adapter idle", () => {
    const unit = fragmentUnitOf(adapterWith([config(16, 16, 16)]))!;
    const { tileM, tileN } = tileOf(shapeOf(gpuOf(unit), { kind: "nt", m: 512, n: 1024, k: 4096 }));
    expect((512 / tileM) * (1024 / tileN)).toBeGreaterThanOrEqual(128);
  });

  it.each([
    ["no such matrices", adapterWith([config(8, 8, 8, "f32")])],
    ["no f16", adapterWith([config(8, 8, 8)], [])],
    ["no subgroup size", adapterWith([config(8, 8, 8)], ["shader-f16"], [0, 0])],
    ["subgroups of more than one size", adapterWith([config(8, 8, 8)], ["shader-f16"], [8, 32])],
    ["no list at all", adapterWith(undefined)],
    ["too few bindings", adapterWith([config(16, 16, 16)], ["shader-f16"], [32, 32], 48, 8)],
    ["too little workgroup memory", adapterWith([config(16, 16, 16)], ["shader-f16"], [32, 32], 8)],
  ])("%s: none", (_, adapter) => {
    expect(fragmentUnitOf(adapter)).toBeNull();
  });
});

describe("fragmentsOf", () => {
  const unit = fragmentUnitOf(adapterWith([config(16, 16, 16)]))!;
  const cases = PRODUCTS.flatMap((sizes) =>
    candidateShapes(unit, sizes).map((shape) => ({ kind: sizes.kind as ProductKind, shape })),
  );

  it("multiplies each pair of fragments once in each step of K", () => {
    for (const { shape, kind } of cases) {
      const lines = fragmentsOf(shape, kind, [""])
        .split("\n")
        .filter((line) => line.includes("subgroupMatrixMultiplyAccumulate"));
      const sums = lines.map(
        (line) => /sums\.(sum_\d_\d) = .*\(left_(\d), right_(\d), sums\.(sum_\d_\d)\)/.exec(line)!,
      );
      expect(sums.every(([, to, i, j, from]) => to === from && to === `sum_${i}_${j}`)).toBe(true);
      expect(new Set(sums.map(([, to]) => to)).size).toBe(shape.fragmentsM * shape.fragmentsN);
      expect(lines.length).toBe((shape.fragmentsM * shape.fragmentsN * shape.step) / 16);
    }
  });

  it("keeps the rows of its tiles in different banks", () => {
    for (const { shape, kind } of cases) {
      const strides = [...fragmentsOf(shape, kind, [""]).matchAll(/_STRIDE = (\d+)u/g)].map(([, value]) =>
        Number(value),
      );
      expect(strides.map((stride) => stride % 2)).toEqual([1, 1, 1]);
    }
  });

  it("keeps a large tile far below 48 KiB of workgroup memory, in one array", () => {
    const bytesOf = (shape: Parameters<typeof fragmentsOf>[0], kind: ProductKind) => {
      const arrays = [...fragmentsOf(shape, kind, [""]).matchAll(/var<workgroup> \w+: array<vec4u, (\d+)>/g)];
      expect(arrays.length).toBe(1);
      return 16 * Number(arrays[0]![1]);
    };
    for (const { shape, kind } of cases) expect(bytesOf(shape, kind)).toBe(workgroupBytes(shape, kind));
    const large = cases.filter(({ shape }) => tileOf(shape).tileM === 128 && tileOf(shape).tileN === 128);
    expect(large.some(({ shape }) => shape.step === 32) && large.some(({ shape }) => shape.step === 64)).toBe(true);
    for (const { shape, kind } of large.filter(({ shape }) => shape.step === 32)) {
      expect(bytesOf(shape, kind)).toBeLessThanOrEqual(24 * 1024);
    }
  });
});
