import { type BufferRange, type GpuBuffer, read, readWrite, uniform } from "../gpu/buffer.ts";
import { type Command, dispatch } from "../gpu/commands.ts";
import type { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";
import type { FloatDtype } from "../weights/half.ts";
import { DTYPE_NUMBER } from "./float-formats.ts";
import { type Matrix, padded } from "./matrix.ts";

/** Rows that a workgroup merges, and columns that each of its invocations does. */
const TILE = 8;

/** Sums that each workgroup of `mergeRows` writes. */
export const MERGE_SUMS = 8;

export interface MergeRows {
  /** M, the rows of W that are there. */
  readonly count: RowCount;
  /** W (M, N) as a file holds it, rows padded to a multiple of 8 elements, and its dtype. */
  readonly w: BufferRange;
  readonly wDtype: FloatDtype;
  /** A (rank, N), and the rows of B (M, rank) beside W's. */
  readonly a: Matrix;
  readonly b: Matrix;
  /** V (M, N), written, laid out like W, and its dtype. */
  readonly v: BufferRange;
  readonly vDtype: FloatDtype;
  /** `MERGE_SUMS` f32 for each of `mergeWorkgroups`, written. */
  readonly sums: BufferRange;
  /** Of `createMergeModule`, for the same shape. */
  readonly module: GpuBuffer;
}

/** What `mergeRows` must know of a module, as a uniform. */
export function createMergeModule(gpu: Gpu, module: MergeModule): GpuBuffer {
  const words = new Uint32Array(8);
  words.set([padded(module.cols) / TILE, padded(module.rank) / 8]);
  new Float32Array(words.buffer).set([module.scale, module.unit], 2);
  return gpu.uniform("merge module", words);
}

export interface MergeModule {
  /** N and the rank of A (rank, N). */
  readonly cols: number;
  readonly rank: number;
  /** The factor of B·A. */
  readonly scale: number;
  /** A power of two by which updates are multiplied before they are squared. */
  readonly unit: number;
}

/** V = round(W + scale · B·A), and sums over what the rounding kept: `kernels/export/merge.wgsl`. */
export function mergeRows(gpu: Gpu, op: MergeRows): Command[] {
  const { count, a, b } = op;
  if (a.rows !== b.cols)
    throw new Error(`internal: export/merge: A's rows are B's columns, but ${a.rows} is not ${b.cols}`);
  const constants = {
    W_DTYPE: DTYPE_NUMBER[op.wDtype],
    V_DTYPE: DTYPE_NUMBER[op.vDtype],
    LANES: gpu.reductionLanes,
  };
  return [
    dispatch(
      gpu,
      { kernel: "export/merge", library: ["float_formats", "fused", "workgroup_sum"], constants },
      [
        uniform(count.uniform),
        uniform(op.module),
        read(op.w),
        read(a.range),
        read(b.range),
        readWrite(op.v),
        readWrite(op.sums),
      ],
      () => [columnWorkgroups(gpu, a.cols), rowWorkgroups(count.value), 1],
    ),
  ];
}

/** Workgroups that `mergeRows` dispatches for so many rows and columns. */
export function mergeWorkgroups(gpu: Gpu, rows: number, cols: number): number {
  return columnWorkgroups(gpu, cols) * rowWorkgroups(rows);
}

/** Most rows that one dispatch of `mergeRows` can take. */
export const MAX_MERGE_ROWS = 65_535 * TILE;

function rowWorkgroups(rows: number): number {
  return Math.ceil(rows / TILE);
}

function columnWorkgroups(gpu: Gpu, cols: number): number {
  return Math.ceil(cols / (TILE * gpu.reductionLanes));
}
