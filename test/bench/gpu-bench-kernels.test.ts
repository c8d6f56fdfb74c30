import { expect, it } from "vitest";
import { create, globals } from "webgpu";
import { ceilingVariant, measureCeiling, readBenchKernel } from "../../scripts/gpu-bench/ceiling.ts";
import { otherKernels } from "../../scripts/gpu-bench/other-kernels.ts";
import { productCommands } from "../../scripts/gpu-bench/products.ts";
import { flopsOf, MODEL_SIZES, type Product, productKey, productsOf } from "../../scripts/gpu-bench/sizes.ts";
import { createTuner } from "../../scripts/gpu-bench/tiles.ts";
import { timeCommands, timeKernels } from "../../scripts/gpu-bench/timing.ts";
import { PipelineCache } from "../../src/gpu/pipelines.ts";
import { decidedTiles } from "../../src/ops/fragment-shapes.ts";
import { useDevice } from "../device.ts";

// What scripts/gpu-bench.sh times, on the test device.

const device = useDevice();

function oneOfEachUse(): Product[] {
  const products = productsOf(MODEL_SIZES.tiny);
  return products.filter(({ use }, i) => products.findIndex((other) => other.use === use) === i);
}

it("says of each product how much is computed, as the product's own ops do", async () => {
  const { gpu } = device;
  const { buffers } = gpu.collect(() => {
    for (const product of oneOfEachUse()) {
      const work = productCommands(gpu, product).flatMap((command) =>
        command.kind === "dispatch" && command.work ? [command.work()] : [],
      );
      // LoRA's gradients on subgroup matrices may add up slices besides.
      const flops = work.reduce((sum, each) => sum + each.flops, 0);
      expect(flops / flopsOf(product), productKey(product)).toBeGreaterThanOrEqual(1);
      expect(flops / flopsOf(product), productKey(product)).toBeLessThan(1.1);
    }
  });
  await gpu.pipelines.ready();
  for (const buffer of buffers) gpu.release(buffer);
});

it("times the kernels that multiply, and all together", async () => {
  const { gpu } = device;
  const product = productsOf(MODEL_SIZES.tiny).find(({ n }) => n === MODEL_SIZES.tiny.keyValue)!;
  const { value: commands, buffers } = gpu.collect(() => productCommands(gpu, product));
  const { ms, multiplyMs } = await timeCommands(gpu, commands);
  expect(multiplyMs).toBeGreaterThan(0);
  expect(ms).toBeGreaterThanOrEqual(multiplyMs);
  for (const buffer of buffers) gpu.release(buffer);
});

it("times every other kernel by itself, and says what it moves", async () => {
  const { gpu } = device;
  const kernels = new Map<string, { readonly flops: number; readonly bytes: number }>();
  for (const { make } of otherKernels(gpu, MODEL_SIZES.tiny)) {
    const { value: commands, buffers } = gpu.collect(make);
    for (const { kernel, ms, ...work } of await timeKernels(gpu, commands)) {
      expect(ms, kernel).toBeGreaterThan(0);
      expect(work.bytes, kernel).toBeGreaterThan(0);
      kernels.set(kernel, work);
    }
    for (const buffer of buffers) gpu.release(buffer);
  }
  const attention = gpu.fragments ? "attention/tensor_" : "attention/";
  // 4 pairs of 128 rows: 64 of a prompt, and two answers of 32 that see it.
  const scores = 4 * ((64 * 65) / 2 + 2 * (32 * 64 + (32 * 33) / 2));
  expect(kernels.get(`${attention}forward`)?.flops).toBe(2 * 2 * 192 * scores);
  expect(kernels.get(`${attention}backward_query`)?.flops).toBe(3 * 2 * 192 * scores);
  expect(kernels.get(`${attention}backward_key`)?.flops).toBe(4 * 2 * 192 * scores);
  expect(kernels.get("norm/rms_forward")).toEqual({ flops: 0, bytes: 512 * 192 * 4 * 2 });
  expect([...kernels.keys()]).toEqual(
    expect.arrayContaining(["head/chunk", "elementwise/swiglu_backward", "norm/rms_backward", "optimizer/adamw_8bit"]),
  );
});

// Shown as skipped on a device without subgroup matrices (SwiftShader).
it("tries the tiles of a product, and then measures it with the fastest", { timeout: 300_000 }, async ({ skip }) => {
  const { gpu } = device;
  skip(!gpu.fragments, "the device has no subgroup matrices with f16 factors");
  const tune = createTuner(gpu);
  const products = productsOf(MODEL_SIZES.tiny);
  for (const use of ["LoRA inner", "LoRA factor"]) {
    const product = products.find((each) => each.use === use)!;
    const tiles = await tune(product);
    const tried = Object.values(tiles.candidate_ms);
    expect(tried.length).toBeGreaterThan(1);
    expect(tiles.candidate_ms[tiles.chosen]).toBe(Math.min(...tried.filter((ms) => ms !== null)));
    expect(Object.values(decidedTiles(gpu))).toContain(tiles.chosen);
    expect(await tune(product)).toBe(tiles);
  }
});

// Shown as skipped on a device without subgroup matrices (SwiftShader). The sums are checked by the measurement itself.
it("finds a ceiling", async ({ skip }) => {
  const { fragments } = device.gpu;
  skip(!fragments, "the device has no subgroup matrices with f16 factors");
  const { matrixM: M, matrixN: N, matrixK: K, subgroupSize } = fragments!;
  const ceiling = await measureCeiling(device.gpu, { M, N, K }, subgroupSize);
  expect(ceiling.tflops).toBeGreaterThan(0);
});

// Dawn's null backend knows f16 and subgroup matrices of any size, checks all of WGSL and runs nothing.
it("has a ceiling that compiles for matrices as NVIDIA's are", async () => {
  Object.assign(globalThis, globals);
  const instance = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
  const adapter = await instance.requestAdapter();
  const requiredFeatures = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"] as GPUFeatureName[];
  const nullDevice = await adapter!.requestDevice({ requiredFeatures });
  const pipelines = new PipelineCache(nullDevice, readBenchKernel);
  for (const [M, N, K] of [
    [16, 16, 16],
    [16, 8, 16],
    [16, 8, 8],
  ] as const) {
    pipelines.get(ceilingVariant(4, { M, N, K }, 32), ["uniform", "read", "readWrite"]);
  }
  await pipelines.ready();
  expect(pipelines.count).toBe(3);
  nullDevice.destroy();
  expect(instance).toBeDefined(); // Collecting it earlier would take the device along.
});
