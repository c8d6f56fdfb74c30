import { type BufferRange, read, readWrite } from "../gpu/buffer.ts";
import { type Command, dispatch } from "../gpu/commands.ts";
import type { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { type Matrix, padded, rowWork } from "./matrix.ts";

export interface RmsNormForward {
  readonly count: RowCount;
  /** x (T, C). */
  readonly x: Matrix;
  /** w (C), padded to a multiple of 8. */
  readonly w: BufferRange;
  readonly eps: number;
  /** y (T, C). */
  readonly y: Matrix;
  /** 1 / root mean square of each row, kept for backward: (T). */
  readonly rstd: BufferRange;
}

/** y = x / rms(x) · w: `kernels/norm/rms_forward.wgsl`. */
export function rmsNormForward(gpu: Gpu, { count, x, w, eps, y, rstd }: RmsNormForward): Command[] {
  const constants = { ROW_VECS: padded(x.cols) / 4, WIDTH: x.cols, EPS: eps, LANES: gpu.reductionLanes };
  return [
    dispatch(
      gpu,
      { kernel: "norm/rms_forward", library: ["workgroup_sum"], constants },
      [read(x.range), read(w), readWrite(y.range), readWrite(rstd)],
      () => [count.value, 1, 1],
      rowWork(count, x, y),
    ),
  ];
}

export interface RmsNormBackward {
  readonly count: RowCount;
  readonly x: Matrix;
  readonly w: BufferRange;
  readonly rstd: BufferRange;
  /** dy (T, C). */
  readonly dy: Matrix;
  /** dx (T, C), written, or added to where `add`. */
  readonly dx: Matrix;
  readonly add: boolean;
}

/** The gradient of `rmsNormForward` with respect to x: `kernels/norm/rms_backward.wgsl`. */
export function rmsNormBackward(gpu: Gpu, { count, x, w, rstd, dy, dx, add }: RmsNormBackward): Command[] {
  const constants = { ROW_VECS: padded(x.cols) / 4, WIDTH: x.cols, ADD: add, LANES: gpu.reductionLanes };
  return [
    dispatch(
      gpu,
      { kernel: "norm/rms_backward", library: ["workgroup_sum"], constants },
      [read(x.range), read(w), read(rstd), read(dy.range), readWrite(dx.range)],
      () => [count.value, 1, 1],
      rowWork(count, x, dy, dx, ...(add ? [dx] : [])),
    ),
  ];
}
