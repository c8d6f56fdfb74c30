import { describe, expect, it } from "vitest";
import { fragmentsOf, tileOf } from "../../src/ops/fragments.ts";
import { fragmentShapeOf } from "../../src/platform/subgroup-matrices.ts";

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
): GPUAdapter {
  const info = { subgroupMinSize, subgroupMaxSize, ...(configs && { subgroupMatrixConfigs: configs }) };
  const limits = { maxComputeWorkgroupStorageSize: workgroupKib * 1024 };
  return { info, limits, features: new Set(features) } as unknown as GPUAdapter;
}

describe("fragmentShapeOf", () => {
  it("takes the largest matrices with f16 factors and f32 sums", () => {
    const adapter = adapterWith([
      config(16, 8, 16),
      config(16, 16, 16),
      config(32, 32, 16, "f16", "f16"),
      config(32, 32, 32, "u8", "u32"),
      config(16, 16, 64),
      config(12, 64, 16),
    ]);
    const shape = fragmentShapeOf(adapter)!;
    expect(shape).toMatchObject({ matrixM: 16, matrixN: 16, matrixK: 16, subgroupSize: 32 });
    expect(tileOf(shape)).toEqual({ tileM: 128, tileN: 128 });
  });

  it("keeps fewer matrices where workgroup memory is short", () => {
    const shape = fragmentShapeOf(adapterWith([config(16, 16, 16)], ["shader-f16"], [32, 32], 32))!;
    expect(tileOf(shape)).toEqual({ tileM: 64, tileN: 64 });
  });

  it("gives every invocation of wide subgroups something to load", () => {
    const shape = fragmentShapeOf(adapterWith([config(8, 8, 8)], ["shader-f16"], [64, 64]))!;
    expect(tileOf(shape)).toEqual({ tileM: 64, tileN: 64 });
  });

  it.each([
    ["no such matrices", adapterWith([config(8, 8, 8, "f32")])],
    ["no f16", adapterWith([config(8, 8, 8)], [])],
    ["no subgroup size", adapterWith([config(8, 8, 8)], ["shader-f16"], [0, 0])],
    ["subgroups of more than one size", adapterWith([config(8, 8, 8)], ["shader-f16"], [8, 32])],
    ["no list at all", adapterWith(undefined)],
    ["too little workgroup memory", adapterWith([config(16, 16, 16)], ["shader-f16"], [32, 32], 8)],
  ])("%s: none", (_, adapter) => {
    expect(fragmentShapeOf(adapter)).toBeNull();
  });
});

describe("fragmentsOf", () => {
  const shape = fragmentShapeOf(adapterWith([config(16, 16, 16)]))!;

  it.each([true, false])("multiplies each pair of fragments once in each step of K, transposed: %s", (transposed) => {
    const text = fragmentsOf(shape, transposed);
    const lines = text.split("\n").filter((line) => line.includes("subgroupMatrixMultiplyAccumulate"));
    const sums = lines.map((line) => /sums\.(sum_\d_\d) = .*\(left_(\d), right_(\d), sums\.(sum_\d_\d)\)/.exec(line)!);
    expect(sums.every(([, to, i, j, from]) => to === from && to === `sum_${i}_${j}`)).toBe(true);
    expect(new Set(sums.map(([, to]) => to)).size).toBe(16);
    expect(lines.length).toBe(16 * 2);
  });

  it("keeps the rows of its tiles in different banks", () => {
    const strides = [...fragmentsOf(shape, true).matchAll(/_TILE_STRIDE = (\d+)u/g)].map(([, stride]) =>
      Number(stride),
    );
    expect(strides.map((stride) => stride % 2)).toEqual([1, 1]);
  });

  it("fits into 48 KiB of workgroup memory", () => {
    for (const transposed of [true, false]) {
      const arrays = [...fragmentsOf(shape, transposed).matchAll(/var<workgroup> \w+: array<(\w+), (\d+)>/g)];
      const bytes = arrays.reduce((sum, [, type, length]) => sum + Number(length) * (type === "vec4u" ? 16 : 4), 0);
      expect(arrays.length).toBe(3);
      expect(bytes).toBeLessThanOrEqual(48 * 1024);
    }
  });
});
