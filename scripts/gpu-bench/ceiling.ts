import { readFileSync } from "node:fs";
import { read, readWrite, uniform, wholeBuffer } from "../../src/gpu/buffer.ts";
import { dispatch } from "../../src/gpu/commands.ts";
import { Gpu } from "../../src/gpu/gpu.ts";
import type { KernelVariant } from "../../src/gpu/pipelines.ts";
import { TENSOR_DIRECTIVES } from "../../src/ops/tensor.ts";
import type { AdapterDescription } from "../../src/platform/adapter.ts";
import { encodeFloats } from "../../src/weights/half.ts";
import { timeCommands } from "./timing.ts";

// How fast an adapter's subgroup matrices can be at all: mma_ceiling.wgsl, which touches no memory in its loop.

export type MatrixConfig = AdapterDescription["subgroupMatrixConfigs"][number];

type MatrixSizes = Pick<MatrixConfig, "M" | "N" | "K">;

export interface Ceiling extends MatrixSizes {
  readonly tflops: number;
  readonly workgroups: number;
  readonly rounds: number;
  readonly dispatch_ms: number;
}

const SUBGROUPS = 4;
/** Long enough for the loop to be all that counts, far below what a watchdog minds. */
const DISPATCH_MS = 40;
/**
 * Elements are multiples of 1/8 up to this: then a product's are multiples of 1/64, and f32 holds the sums exactly as long
 * as they stay below 2²⁴ / 64. Equal elements would let a GPU clock higher than a real product does.
 */
const LARGEST_EIGHTHS = 7;
/** Relative by norm. That every round was run is all that is asked here. */
const TOLERANCE = 1e-4;

/** @throws when the sums are not what they must be: then the loop has not been run as it is written */
export async function measureCeiling(opened: Gpu, { M, N, K }: MatrixSizes, subgroupSize: number): Promise<Ceiling> {
  const isSoftware = opened.device.adapterInfo.isFallbackAdapter;
  // 16 sums, as a tile of a product has them. Drivers for the CPU compile so many for minutes.
  const count = isSoftware ? 2 : 4;
  const gpu = new Gpu(opened.device, {
    kernelSource: readBenchKernel,
  });
  const random = randomEighths();
  const lefts = Array.from({ length: count }, () => Float32Array.from({ length: M * K }, random));
  const rights = Array.from({ length: count }, () => Float32Array.from({ length: K * N }, random));
  const { value, buffers } = gpu.collect(() => {
    const elements = Float32Array.from([...lefts, ...rights].flatMap((matrix) => [...matrix]));
    const factors = gpu.buffer("factors", elements.length * 2);
    gpu.write(factors, 0, new Uint8Array(encodeFloats("F16", elements)));
    const result = gpu.buffer("sums", count * count * M * N * 4);
    return { factors, result, rounds: gpu.uniform("rounds", new Uint32Array(4)) };
  });
  const { factors, result, rounds } = value;
  try {
    const workgroups = isSoftware ? 16 : 4096;
    const multiplied = () => 2 * M * N * K * count ** 2 * SUBGROUPS * workgroups * roundCount;
    let roundCount = 4;
    const command = dispatch(
      gpu,
      ceilingVariant(count, { M, N, K }, subgroupSize),
      [uniform(rounds), read(wholeBuffer(factors)), readWrite(wholeBuffer(result))],
      () => [workgroups, 1, 1],
      () => ({ flops: multiplied(), bytes: 0 }),
    );
    const timeWith = (next: number) => {
      roundCount = next;
      gpu.write(rounds, 0, new Uint32Array([next, 0, 0, 0]));
      return timeCommands(gpu, [command]);
    };
    const maxRounds = Math.floor(2 ** 24 / (LARGEST_EIGHTHS ** 2 * K));
    let { ms } = await timeWith(roundCount);
    while (ms < DISPATCH_MS && roundCount < maxRounds) {
      const growth = Math.min(16, Math.max(2, Math.floor(DISPATCH_MS / Math.max(ms, 1e-3))));
      ({ ms } = await timeWith(Math.min(maxRounds, roundCount * growth)));
    }
    const [copy] = await gpu.read(wholeBuffer(result));
    const expected = expectedSums(lefts, rights, { M, N, K }, roundCount);
    const error = relativeError(new Float32Array(copy!), expected);
    if (!(error <= TOLERANCE)) throw new Error(`sums of subgroup matrices are off by ${error} of their size`);
    return { M, N, K, tflops: multiplied() / ms / 1e9, workgroups, rounds: roundCount, dispatch_ms: ms };
  } finally {
    for (const buffer of buffers) gpu.release(buffer);
  }
}

export function readBenchKernel(name: string): string {
  return readFileSync(new URL(`../../scripts/gpu-bench/${name}.wgsl`, import.meta.url), "utf8");
}

/** @param count factors on each side */
export function ceilingVariant(count: number, sizes: MatrixSizes, subgroupSize: number): KernelVariant {
  return {
    kernel: "mma_ceiling",
    directives: TENSOR_DIRECTIVES,
    prelude: { "const INVOCATIONS": `${SUBGROUPS * subgroupSize}u` },
    generated: unrolled(count, sizes),
  };
}

/** What mma_ceiling.wgsl needs unrolled, because WGSL keeps subgroup matrices in registers only under names. */
function unrolled(count: number, { M, N, K }: MatrixSizes): string {
  const indices = Array.from({ length: count }, (_, i) => i);
  const perSum = (line: (i: number, j: number) => string) => indices.flatMap((i) => indices.map((j) => line(i, j)));
  return [
    `alias Left = subgroup_matrix_left<f16, ${K}, ${M}>;`,
    `alias Right = subgroup_matrix_right<f16, ${N}, ${K}>;`,
    `alias Sum = subgroup_matrix_result<f32, ${N}, ${M}>;`,
    "struct Factors {",
    ...indices.map((i) => `  left_${i}: Left, right_${i}: Right,`),
    "}",
    "struct Sums {",
    ...perSum((i, j) => `  sum_${i}_${j}: Sum,`),
    "}",
    "fn load_factors(to: ptr<function, Factors>) {",
    ...indices.flatMap((i) => [
      `  to.left_${i} = subgroupMatrixLoad<Left, row_major>(&factors, ${i * M * K}u, ${K}u);`,
      `  to.right_${i} = subgroupMatrixLoad<Right, row_major>(&factors, ${count * M * K + i * K * N}u, ${N}u);`,
    ]),
    "}",
    "fn multiply(by: ptr<function, Factors>, sums: ptr<function, Sums>) {",
    ...perSum((i, j) => {
      const sum = `sums.sum_${i}_${j}`;
      return `  ${sum} = subgroupMatrixMultiplyAccumulate(by.left_${i}, by.right_${j}, ${sum});`;
    }),
    "}",
    "fn store_sums(sums: ptr<function, Sums>) {",
    ...perSum((i, j) => {
      return `  subgroupMatrixStore<row_major>(&result, ${(i * count + j) * M * N}u, sums.sum_${i}_${j}, ${N}u);`;
    }),
    "}",
    "",
  ].join("\n");
}

/** Reference of mma_ceiling.wgsl's result. */
function expectedSums(
  lefts: readonly Float32Array[],
  rights: readonly Float32Array[],
  { M, N, K }: MatrixSizes,
  rounds: number,
): number[] {
  const element = (left: Float32Array, right: Float32Array, at: number): number => {
    const [row, column] = [Math.floor(at / N), at % N];
    let sum = 0;
    for (let k = 0; k < K; k++) sum += left[row * K + k]! * right[k * N + column]!;
    return rounds * sum;
  };
  return lefts.flatMap((left) =>
    rights.flatMap((right) => Array.from({ length: M * N }, (_, at) => element(left, right, at))),
  );
}

function relativeError(values: Float32Array, expected: readonly number[]): number {
  const difference = Math.hypot(...expected.map((value, i) => values[i]! - value));
  return difference / Math.hypot(...expected);
}

function randomEighths(): () => number {
  let state = 1;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    return (((state >>> 8) % (2 * LARGEST_EIGHTHS + 1)) - LARGEST_EIGHTHS) / 8;
  };
}
