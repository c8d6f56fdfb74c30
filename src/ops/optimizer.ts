import type { GpuBuffer } from "../gpu/buffer.ts";
import { type BufferRange, read, readWrite, uniform, wholeBuffer } from "../gpu/buffer.ts";
import { type Command, dispatch } from "../gpu/commands.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { gridOf } from "./grid.ts";
import { createMatrix, type Matrix, padded } from "./matrix.ts";

/** vec4 that one workgroup of `square_sum` adds up, as far as MAX_PARTIALS allows. */
const VECS_PER_PARTIAL = 1024;
/** Partial sums of one gradient: enough workgroups to fill a GPU, few enough numbers to add up at once. */
const MAX_PARTIALS = 64;

/** f32 elements of `partials` that are this gradient's. */
export function partialsOf(gradient: Matrix): number {
  return Math.min(MAX_PARTIALS, Math.ceil(gradient.range.sizeBytes / 16 / VECS_PER_PARTIAL));
}

/** f32 elements that `partials` must have for these gradients. */
export function partialCount(gradients: readonly Matrix[]): number {
  return gradients.reduce((sum, gradient) => sum + partialsOf(gradient), 0);
}

/** partials = shares of the sum of squares of each gradient, one gradient after another: `kernels/optimizer/square_sum.wgsl`. */
export function squareSums(gpu: Gpu, gradients: readonly Matrix[], partials: BufferRange): Command[] {
  let FIRST = 0;
  return gradients.map((gradient) => {
    const WORKGROUPS = partialsOf(gradient);
    const constants = { VECS: gradient.range.sizeBytes / 16, WORKGROUPS, FIRST, LANES: gpu.reductionLanes };
    FIRST += WORKGROUPS;
    return dispatch(
      gpu,
      { kernel: "optimizer/square_sum", library: ["workgroup_sum"], constants },
      [read(gradient.range), readWrite(partials)],
      () => [WORKGROUPS, 1, 1],
      () => ({ flops: 0, bytes: gradient.range.sizeBytes }),
    );
  });
}

/** clip = (norm, scale, finite, 0) from the partial sums: `kernels/optimizer/clip.wgsl`. */
export function clipScale(
  gpu: Gpu,
  op: { step: GpuBuffer; partials: BufferRange; partialCount: number; clip: BufferRange },
): Command[] {
  return [
    dispatch(
      gpu,
      {
        kernel: "optimizer/clip",
        library: ["step", "workgroup_sum"],
        constants: { PARTIALS: op.partialCount, LANES: gpu.reductionLanes },
      },
      [uniform(op.step), read(op.partials), readWrite(op.clip)],
      () => [1, 1, 1],
      () => ({ flops: 0, bytes: op.partials.sizeBytes }),
    ),
  ];
}

/** Moments in f32, laid out like the parameter. */
export interface Moments32 {
  readonly kind: "f32";
  readonly first: Matrix;
  readonly second: Matrix;
}

/** Moments in 8 bits by blocks of 256 elements of the dense tensor. */
export interface Moments8 {
  readonly kind: "8bit";
  /** (elements) bytes, 4 to a u32, padded to whole blocks. */
  readonly firstBytes: BufferRange;
  readonly secondBytes: BufferRange;
  /** (blocks, 2) f32: the largest magnitude of m and of v. */
  readonly absmax: BufferRange;
}

export const BLOCK_ELEMENTS = 256;

/** Zero moments in f32 for a tensor. */
export function createMoments32(gpu: Gpu, label: string, { rows, cols }: Matrix): Moments32 {
  return {
    kind: "f32",
    first: createMatrix(gpu, `${label} first moment`, rows, cols),
    second: createMatrix(gpu, `${label} second moment`, rows, cols),
  };
}

/** Zero moments in 8 bits for a tensor. */
export function createMoments8(gpu: Gpu, label: string, { rows, cols }: Matrix): Moments8 {
  const blocks = Math.ceil((rows * cols) / BLOCK_ELEMENTS);
  const bytes = (name: string) => wholeBuffer(gpu.buffer(`${label} ${name}`, blocks * BLOCK_ELEMENTS));
  return {
    kind: "8bit",
    firstBytes: bytes("first moment"),
    secondBytes: bytes("second moment"),
    absmax: wholeBuffer(gpu.buffer(`${label} absmax`, blocks * 8)),
  };
}

export interface AdamWUpdate {
  readonly step: GpuBuffer;
  readonly clip: BufferRange;
  readonly gradient: Matrix;
  readonly parameter: Matrix;
}

/** One AdamW step of one tensor with f32 moments: `kernels/optimizer/adamw.wgsl`. */
export function adamW(gpu: Gpu, op: AdamWUpdate & { moments: Moments32; decayLast: boolean }): Command[] {
  const VECS = op.parameter.range.sizeBytes / 16;
  const grid = gridOf(Math.ceil(VECS / 64));
  return [
    dispatch(
      gpu,
      {
        kernel: "optimizer/adamw",
        library: ["step"],
        constants: { VECS, GROUPS_X: grid[0], DECAY_LAST: op.decayLast },
      },
      [
        uniform(op.step),
        read(op.clip),
        read(op.gradient.range),
        readWrite(op.parameter.range),
        readWrite(op.moments.first.range),
        readWrite(op.moments.second.range),
      ],
      () => grid,
      // The gradient is read; parameter and moments are read and written.
      () => ({ flops: 0, bytes: 7 * op.parameter.range.sizeBytes }),
    ),
  ];
}

/** One AdamW step of one tensor with 8-bit moments: `kernels/optimizer/adamw_8bit.wgsl`. `code` is `dynamicMaps()`. */
export function adamW8(gpu: Gpu, op: AdamWUpdate & { moments: Moments8; code: BufferRange }): Command[] {
  const { rows, cols } = op.parameter;
  const BLOCKS = Math.ceil((rows * cols) / BLOCK_ELEMENTS);
  const grid = gridOf(BLOCKS);
  const constants = {
    LANES: gpu.reductionLanes,
    ELEMENTS: rows * cols,
    COLS: cols,
    STRIDE: padded(cols),
    BLOCKS,
    GROUPS_X: grid[0],
  };
  return [
    dispatch(
      gpu,
      { kernel: "optimizer/adamw_8bit", library: ["step", "nearest_code"], constants },
      [
        uniform(op.step),
        read(op.clip),
        read(op.code),
        read(op.gradient.range),
        readWrite(op.parameter.range),
        readWrite(op.moments.firstBytes),
        readWrite(op.moments.secondBytes),
        readWrite(op.moments.absmax),
      ],
      () => grid,
      () => ({ flops: 0, bytes: rows * cols * (3 * 4 + 2 * 2) + 2 * op.moments.absmax.sizeBytes }),
    ),
  ];
}
