import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { ExpectedError } from "../../src/errors.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { type OpenedDevice, openDevice } from "../../src/platform/dawn.ts";
import { type Ceiling, type MatrixConfig, measureCeiling } from "./ceiling.ts";
import { otherKernels } from "./other-kernels.ts";
import { productCommands } from "./products.ts";
import { flopsOf, MODEL_SIZES, type Product, productsOf, type Size } from "./sizes.ts";
import { createTuner, type TunedTiles } from "./tiles.ts";
import { timeCommands, timeKernels } from "./timing.ts";

// What the benchmark measures on the device itself, a process for each stage: device facts, products, other kernels, or the ceiling. The
// file it writes is whole after every measurement, and `complete` in it says whether there is more to come.

/** A product as it was measured. */
export interface MeasuredProduct extends Product {
  /** Of the kernels that multiply. */
  readonly tflops: number;
  /** With what brings the left factor into f16 first. */
  readonly tflops_with_packing: number;
  readonly ms: number;
  /** Which tiles were tried; null where the guess stands. */
  readonly tiles: TunedTiles | null;
}

/** One of the kernels that are no matmuls. */
export interface MeasuredKernel {
  readonly kernel: string;
  readonly shape: string;
  readonly ms: number;
  /** Null where nothing is multiplied that counts. */
  readonly tflops: number | null;
  /** Of what it moves at least. */
  readonly gb_per_second: number | null;
}

export interface DeviceFacts {
  readonly name: string;
  readonly vendor: string;
  readonly architecture: string;
  readonly software: boolean;
  readonly profile: string;
  readonly features: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
  readonly subgroup_size: readonly [least: number, most: number];
  readonly subgroup_matrices: readonly MatrixConfig[];
  /** What our products on subgroup matrices are built from; null where they cannot be. */
  readonly fragments: Gpu["fragments"];
}

function factsOf({ gpu, adapter, profile }: OpenedDevice): DeviceFacts {
  const { name, vendor, architecture, software, features, limits } = adapter;
  return {
    ...{ name, vendor, architecture, software, profile, features, limits },
    subgroup_size: [adapter.subgroupMinSize, adapter.subgroupMaxSize],
    subgroup_matrices: adapter.subgroupMatrixConfigs,
    fragments: gpu.fragments,
  };
}

async function measureProducts(
  { gpu, adapter }: OpenedDevice,
  size: Size,
  onMeasured: (measured: MeasuredProduct[]) => void,
): Promise<void> {
  const measured: MeasuredProduct[] = [];
  const tune = gpu.fragments && !adapter.software ? createTuner(gpu) : null;
  for (const product of productsOf(MODEL_SIZES[size])) {
    const tiles = tune && (await tune(product));
    const { value: commands, buffers } = gpu.collect(() => productCommands(gpu, product));
    try {
      const { ms, multiplyMs } = await timeCommands(gpu, commands);
      const tflops = (milliseconds: number) => flopsOf(product) / milliseconds / 1e9;
      measured.push({ ...product, tflops: tflops(multiplyMs), tflops_with_packing: tflops(ms), ms, tiles });
      const built = tiles ? ` with ${tiles.chosen}` : "";
      process.stdout.write(
        `${product.use} ${product.m}x${product.n}x${product.k}: ${tflops(multiplyMs)} TFLOP/s${built}\n`,
      );
      onMeasured(measured);
    } finally {
      for (const buffer of buffers) gpu.release(buffer);
    }
  }
}

async function measureKernels(gpu: Gpu, size: Size, onMeasured: (measured: MeasuredKernel[]) => void): Promise<void> {
  const measured: MeasuredKernel[] = [];
  for (const { shape, make } of otherKernels(gpu, MODEL_SIZES[size])) {
    const { value: commands, buffers } = gpu.collect(make);
    try {
      for (const { kernel, ms, flops, bytes } of await timeKernels(gpu, commands)) {
        const rate = {
          tflops: flops > 0 ? flops / ms / 1e9 : null,
          gb_per_second: bytes > 0 ? bytes / ms / 1e6 : null,
        };
        measured.push({ kernel, shape, ms, ...rate });
        process.stdout.write(`${kernel}, ${shape}: ${ms} ms\n`);
      }
      onMeasured(measured);
    } finally {
      for (const buffer of buffers) gpu.release(buffer);
    }
  }
}

async function measureCeilings(
  { gpu, adapter }: OpenedDevice,
  onMeasured: (measured: Ceiling[]) => void,
): Promise<void> {
  if (!gpu.fragments) throw new ExpectedError("the device has no subgroup matrices with f16 factors and f32 sums", 3);
  const measured: Ceiling[] = [];
  for (const config of adapter.subgroupMatrixConfigs) {
    if (config.componentType !== "f16" || config.resultComponentType !== "f32") continue;
    const ceiling = await measureCeiling(gpu, config, adapter.subgroupMaxSize);
    process.stdout.write(`ceiling of ${config.M}x${config.N}x${config.K}: ${ceiling.tflops} TFLOP/s\n`);
    measured.push(ceiling);
    onMeasured(measured);
  }
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      device: { type: "string", default: "auto" },
      size: { type: "string", default: "tiny" },
      out: { type: "string", default: "" },
    },
  });
  const write = (complete: boolean, measured: object) =>
    writeFileSync(values.out, `${JSON.stringify({ complete, measured }, null, 1)}\n`);
  const opened = await openDevice({ device: values.device });
  try {
    const { gpu } = opened;
    let last: object = factsOf(opened);
    const keep = (measured: object) => {
      last = measured;
      write(false, measured);
    };
    if (positionals[0] === "matmul") await measureProducts(opened, values.size as Size, keep);
    else if (positionals[0] === "kernels") await measureKernels(gpu, values.size as Size, keep);
    else if (positionals[0] === "ceiling") await measureCeilings(opened, keep);
    await gpu.idle(); // A device that is closed at once after it was opened can bring Dawn down.
    write(true, last);
  } finally {
    opened.close();
  }
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${error instanceof ExpectedError ? error.message : (error as Error).stack}\n`);
  process.exitCode = error instanceof ExpectedError ? error.exitCode : 1;
}
