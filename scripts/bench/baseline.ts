import { readFileSync } from "node:fs";
import { read, readWrite, uniform } from "../../src/gpu/buffer.ts";
import { type Command, dispatch, type Workgroups } from "../../src/gpu/commands.ts";
import { Gpu } from "../../src/gpu/gpu.ts";
import type { KernelVariant } from "../../src/gpu/pipelines.ts";
import { type Matrix, padded } from "../../src/ops/matrix.ts";

/** A product of (m, k) and (k, n). */
export interface MatmulShape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

export interface PlainKernel {
  readonly name: string;
  readonly variant: KernelVariant;
  readonly workgroups: (shape: MatmulShape) => Workgroups;
}

/** The plain kernels that ours are measured against: three tiles in registers, and one that stages its operands. */
export const PLAIN_KERNELS: readonly PlainKernel[] = [
  registerTiled(4, 4),
  registerTiled(8, 4),
  registerTiled(8, 8),
  {
    name: "4x4 through workgroup memory",
    variant: { kernel: "workgroup_tiled" },
    workgroups: ({ m, n }) => [Math.ceil(n / 64), Math.ceil(m / 64), 1],
  },
];

function registerTiled(rows: 4 | 8, columns: 4 | 8): PlainKernel {
  return {
    name: `${rows}x${columns}`,
    variant: { kernel: "register_tiled", constants: { TALL: rows === 8, WIDE: columns === 8 } },
    workgroups: ({ m, n }) => [Math.ceil(n / columns / 8), Math.ceil(m / rows / 8), 1],
  };
}

/** The same device with the kernels of this folder. */
export function baselineGpu({ device }: Gpu): Gpu {
  return new Gpu(device, { kernelSource: (name) => readFileSync(new URL(`${name}.wgsl`, import.meta.url), "utf8") });
}

/** C = A·B, of matrices with zero padding to multiples of 8. `gpu` is a `baselineGpu`. */
export function plainMatmul(gpu: Gpu, kernel: PlainKernel, a: Matrix, b: Matrix, c: Matrix): Command {
  const shape = { m: padded(a.rows), n: padded(b.cols), k: padded(a.cols) };
  const sizes = gpu.uniform("plain matmul", Uint32Array.of(shape.m, shape.n, shape.k, 0));
  return dispatch(gpu, kernel.variant, [uniform(sizes), read(a.range), read(b.range), readWrite(c.range)], () =>
    kernel.workgroups(shape),
  );
}
