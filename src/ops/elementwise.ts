import { type BufferRange, read, readWrite } from "../gpu/buffer.ts";
import { type Command, dispatch, type Workgroups } from "../gpu/commands.ts";
import type { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { type Matrix, padded, rowWork, type Weight, weightRowBytes, widenLibrary } from "./matrix.ts";

/** One invocation per item of a row, 64 to a workgroup, and one line of workgroups per row. */
function perRow(itemsPerRow: number, count: RowCount): () => Workgroups {
  return () => [Math.ceil(itemsPerRow / 64), count.value, 1];
}

/** x[t] = W[tokens[t]]: `kernels/elementwise/embedding.wgsl`, one dispatch for each part of W. */
export function embedding(
  gpu: Gpu,
  { count, tokens, w, x }: { count: RowCount; tokens: BufferRange; w: Weight; x: Matrix },
): Command[] {
  const GROUPS = padded(w.cols) / 8;
  return w.parts.map((part) => {
    const constants = { GROUPS, FIRST_ROW: part.firstRow, ROWS: part.rows, W_IS_F32: w.format === "f32" };
    return dispatch(
      gpu,
      { kernel: "elementwise/embedding", library: [widenLibrary(w.format)], constants },
      [read(tokens), read(part.range), readWrite(x.range)],
      perRow(GROUPS, count),
      // Each row is written once, by whichever part holds its token: an equal share of it for each.
      () => ({
        flops: 0,
        bytes: (count.value * (weightRowBytes(w.format, w.cols) + 4 * padded(x.cols))) / w.parts.length,
      }),
    );
  });
}

/** y = silu(gate) · up: `kernels/elementwise/swiglu_forward.wgsl`. All (T, I). */
export function swigluForward(
  gpu: Gpu,
  { count, gate, up, y }: { count: RowCount; gate: Matrix; up: Matrix; y: Matrix },
): Command[] {
  const ROW_VECS = padded(gate.cols) / 4;
  return [
    dispatch(
      gpu,
      { kernel: "elementwise/swiglu_forward", library: ["sigmoid"], constants: { ROW_VECS } },
      [read(gate.range), read(up.range), readWrite(y.range)],
      perRow(ROW_VECS, count),
      rowWork(count, gate, up, y),
    ),
  ];
}

/** The gradients of `swigluForward` with respect to gate and up: `kernels/elementwise/swiglu_backward.wgsl`. */
export function swigluBackward(
  gpu: Gpu,
  op: { count: RowCount; gate: Matrix; up: Matrix; dy: Matrix; dGate: Matrix; dUp: Matrix },
): Command[] {
  const ROW_VECS = padded(op.gate.cols) / 4;
  return [
    dispatch(
      gpu,
      { kernel: "elementwise/swiglu_backward", library: ["sigmoid"], constants: { ROW_VECS } },
      [read(op.gate.range), read(op.up.range), read(op.dy.range), readWrite(op.dGate.range), readWrite(op.dUp.range)],
      perRow(ROW_VECS, op.count),
      rowWork(op.count, op.gate, op.up, op.dy, op.dGate, op.dUp),
    ),
  ];
}

export interface Rope {
  readonly count: RowCount;
  /** Position of each row: (T) u32. */
  readonly positions: BufferRange;
  /** (cos, sin) of each position and pair: (positions, headDim / 2, 2) f32. */
  readonly table: BufferRange;
  /** (T, heads · headDim), changed in place. */
  readonly x: Matrix;
  readonly headDim: number;
  /** Turns the other way: the gradient. */
  readonly inverse: boolean;
}

/** Rotary position embedding in place: `kernels/elementwise/rope.wgsl`. */
export function rope(gpu: Gpu, { count, positions, table, x, headDim, inverse }: Rope): Command[] {
  const HEADS = x.cols / headDim;
  const HALF = headDim / 2;
  const constants = { HEADS, HALF, ROW_STRIDE: padded(x.cols), INVERSE: inverse };
  return [
    dispatch(
      gpu,
      { kernel: "elementwise/rope", constants },
      [read(positions), read(table), readWrite(x.range)],
      perRow(HEADS * HALF, count),
      rowWork(count, x, x),
    ),
  ];
}

/** y[r] = x[rows[r]]: `kernels/elementwise/gather_rows.wgsl`. `count` counts the rows of y. */
export function gatherRows(
  gpu: Gpu,
  { count, rows, x, y }: { count: RowCount; rows: BufferRange; x: Matrix; y: Matrix },
): Command[] {
  return [moveRows(gpu, "elementwise/gather_rows", count, rows, x, y)];
}

/** y[rows[r]] = x[r]: `kernels/elementwise/scatter_rows.wgsl`. `count` counts the rows of x; other rows of y stay. */
export function scatterRows(
  gpu: Gpu,
  { count, rows, x, y }: { count: RowCount; rows: BufferRange; x: Matrix; y: Matrix },
): Command[] {
  return [moveRows(gpu, "elementwise/scatter_rows", count, rows, x, y)];
}

function moveRows(gpu: Gpu, kernel: string, count: RowCount, rows: BufferRange, x: Matrix, y: Matrix): Command {
  const ROW_VECS = padded(x.cols) / 4;
  return dispatch(
    gpu,
    { kernel, constants: { ROW_VECS } },
    [read(rows), read(x.range), readWrite(y.range)],
    perRow(ROW_VECS, count),
    rowWork(count, x, x),
  );
}
