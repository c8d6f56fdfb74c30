import { type BufferRange, read, readWrite, uniform } from "../gpu/buffer.ts";
import { type Command, dispatch, type Work, type Workgroups } from "../gpu/commands.ts";
import type { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";
import type { PackedRows } from "./half-rows.ts";
import {
  type Matrix,
  padded,
  type Weight,
  type WeightFormat,
  type WeightPart,
  weightRowBytes,
  widenLibrary,
} from "./matrix.ts";
import { type Addition, tensorProduct } from "./tensor.ts";

/** Elements of the result that an invocation computes along each side. */
const TILE = 8;
/** Invocations of a workgroup. */
const INVOCATIONS = 64;

/**
 * How the invocations of a workgroup lie over the tiles of a result: square, for the most reuse of what they load, unless
 * the result is narrower, as LoRA's are.
 */
function workgroupShape(columns: number): { GROUP_X: number; GROUP_Y: number } {
  const widest = Math.sqrt(INVOCATIONS);
  let GROUP_X = 1;
  while (GROUP_X < widest && GROUP_X * TILE < columns) GROUP_X *= 2;
  return { GROUP_X, GROUP_Y: INVOCATIONS / GROUP_X };
}

/** Workgroups that cover a result of `rows` × `columns`. */
function workgroupsOver(rows: number, columns: number): Workgroups {
  const { GROUP_X, GROUP_Y } = workgroupShape(columns);
  return [Math.ceil(columns / TILE / GROUP_X), Math.ceil(rows / TILE / GROUP_Y), 1];
}

export interface LinearForward {
  /** M, the rows of X. */
  readonly count: RowCount;
  /** X (M, K). Null where it is there in f16 alone. */
  readonly x: Matrix | null;
  /** W (N, K). */
  readonly w: Weight | Matrix;
  /** Y (M, N), every element written. */
  readonly y: Matrix;
  /** Adds U·Bᵀ: U (M, rank), B (N, rank). */
  readonly lora?: { readonly u: Matrix; readonly b: Matrix } | undefined;
  /** R (M, N), added. Not the same buffer as Y. */
  readonly residual?: Matrix | undefined;
  /** Factor of X·Wᵀ, 1 if not given. */
  readonly scale?: number;
  /** X in f16: with it the product is taken on subgroup matrices. W is in f16 then, or f32 where it is a LoRA factor. */
  readonly packed?: PackedRows | null | undefined;
}

/**
 * Y = scale · X·Wᵀ (+ U·Bᵀ) (+ R), one dispatch for each part of W: `kernels/matmul/nt.wgsl`, or, where there is never more
 * than one row, `kernels/matmul/vector.wgsl`.
 */
export function matmulNT(gpu: Gpu, op: LinearForward): Command[] {
  const { count, y, lora, residual, scale = 1 } = op;
  const w = asWeight(op.w);
  expectShapes("matmul/nt", [
    ["W's columns are X's", w.cols, op.x?.cols ?? w.cols],
    ["W's columns are those packed", w.cols, op.packed?.cols ?? w.cols],
    ["Y's columns are W's rows", y.cols, w.rows],
    ...(lora ? ([["B's rows are W's", lora.b.rows, w.rows]] as const) : []),
    ...(lora ? ([["B's columns are U's", lora.b.cols, lora.u.cols]] as const) : []),
    ...(residual ? ([["R's columns are Y's", residual.cols, y.cols]] as const) : []),
  ]);
  if (op.packed && (count.max > 1 || !op.x)) return tensorNT(gpu, op, w, op.packed);
  const { x } = op;
  if (!x) throw new Error("internal: matmul/nt: neither X nor X in f16");
  if (count.max === 1) return w.parts.map((part) => vectorNT(gpu, { ...op, x }, w.format, part));
  return w.parts.map((part) => {
    const constants = {
      ...workgroupShape(part.rows),
      K_GROUPS: padded(w.cols) / 8,
      N_GROUPS: padded(part.rows) / 8,
      Y_STRIDE: padded(y.cols) / 4,
      FIRST_COLUMN: part.firstRow / 4,
      W_IS_F32: w.format === "f32",
      RANK_GROUPS: lora ? padded(lora.u.cols) / 8 : 0,
      HAS_RESIDUAL: residual !== undefined,
      SCALE: scale,
    };
    return dispatch(
      gpu,
      { kernel: "matmul/nt", library: [widenLibrary(w.format)], constants },
      [
        uniform(count.uniform),
        read(x.range),
        read(part.range),
        read(lora?.u.range ?? x.range),
        read(lora ? rowsFrom(lora.b, part) : x.range),
        read(residual?.range ?? x.range),
        readWrite(y.range),
      ],
      () => workgroupsOver(count.value, part.rows),
      productWork(count, {
        k: w.cols,
        n: part.rows,
        rank: lora?.u.cols ?? 0,
        weightBytes: weightRowBytes(w.format, w.cols) * part.rows,
      }),
    );
  });
}

/** Workgroups along x: below the limit of a dimension, which the quarter of a large vocabulary exceeds. */
const VECTOR_GRID_X = 2 ** 15;

/** `matmulNT` of one row for one part of W. */
function vectorNT(
  gpu: Gpu,
  op: LinearForward & { readonly x: Matrix },
  format: WeightFormat,
  part: WeightPart,
): Command {
  const { count, x, y, lora, residual, scale = 1 } = op;
  const N_VECS = padded(part.rows) / 4;
  const GRID_X = Math.min(N_VECS, VECTOR_GRID_X);
  const constants = {
    LANES: gpu.reductionLanes,
    GRID_X,
    K_GROUPS: padded(x.cols) / 8,
    N_VECS,
    FIRST_COLUMN: part.firstRow / 4,
    W_IS_F32: format === "f32",
    RANK_VECS: lora ? padded(lora.u.cols) / 4 : 0,
    HAS_RESIDUAL: residual !== undefined,
    SCALE: scale,
  };
  return dispatch(
    gpu,
    { kernel: "matmul/vector", library: [widenLibrary(format)], constants },
    [
      read(x.range),
      read(part.range),
      read(lora?.u.range ?? x.range),
      read(lora ? rowsFrom(lora.b, part) : x.range),
      read(residual?.range ?? x.range),
      readWrite(y.range),
    ],
    () => [GRID_X, Math.ceil(N_VECS / GRID_X), count.value],
    productWork(count, { k: x.cols, n: part.rows, rank: lora?.u.cols ?? 0, weightBytes: part.range.sizeBytes }),
  );
}

/** What becomes of the values that Y holds already: dropped, added, or multiplied by a factor for each row and added. */
export type Prior = "drop" | "add" | { readonly rowScale: BufferRange };

export interface LinearBackward {
  /** M, the rows of X. */
  readonly count: RowCount;
  /** X (M, N): the gradient of a linear layer's output. */
  readonly x: Matrix;
  /** W (N, K). */
  readonly w: Weight | Matrix;
  /** Y (M, K). */
  readonly y: Matrix;
  /** Adds U·A: U (M, rank), A (rank, K). */
  readonly lora?: { readonly u: Matrix; readonly a: Matrix } | undefined;
  readonly prior: Prior;
  /** Factor of X·W, 1 if not given. */
  readonly scale?: number;
  /** As in {@link LinearForward}. */
  readonly packed?: PackedRows | null | undefined;
}

/** Y = scale · X·W (+ U·A) (+ what Y held): `kernels/matmul/nn.wgsl`, one dispatch for each part of W. */
export function matmulNN(gpu: Gpu, op: LinearBackward): Command[] {
  const { count, x, y, lora, prior, scale = 1 } = op;
  const w = asWeight(op.w);
  expectShapes("matmul/nn", [
    ["W's rows are X's columns", w.rows, x.cols],
    ["Y's columns are W's", y.cols, w.cols],
    ["X's columns are those packed", op.packed?.cols ?? x.cols, x.cols],
    ...(lora ? ([["A's columns are W's", lora.a.cols, w.cols]] as const) : []),
    ...(lora ? ([["A's rows are U's columns", lora.a.rows, lora.u.cols]] as const) : []),
  ]);
  if (op.packed) return tensorNN(gpu, op, w, op.packed);
  return w.parts.map((part, index) => {
    const isFirst = index === 0;
    const adds = prior === "add" || !isFirst;
    const constants = {
      ...workgroupShape(w.cols),
      K_GROUPS: padded(w.cols) / 8,
      N_GROUPS: padded(part.rows) / 8,
      X_STRIDE: padded(x.cols) / 4,
      FIRST_COLUMN: part.firstRow / 4,
      W_IS_F32: w.format === "f32",
      RANK_GROUPS: lora && isFirst ? padded(lora.u.cols) / 8 : 0,
      PRIOR: adds ? 1 : prior === "drop" ? 0 : 2,
      SCALE: scale,
    };
    return dispatch(
      gpu,
      { kernel: "matmul/nn", library: [widenLibrary(w.format)], constants },
      [
        uniform(count.uniform),
        read(x.range),
        read(part.range),
        read(lora?.u.range ?? x.range),
        read(lora?.a.range ?? x.range),
        read(typeof prior === "object" ? prior.rowScale : x.range),
        readWrite(y.range),
      ],
      () => workgroupsOver(count.value, w.cols),
      productWork(count, {
        k: part.rows,
        n: w.cols,
        rank: isFirst ? (lora?.u.cols ?? 0) : 0,
        weightBytes: weightRowBytes(w.format, w.cols) * part.rows,
      }),
    );
  });
}

/** `matmulNT` on subgroup matrices, one dispatch for each part of W. */
function tensorNT(gpu: Gpu, op: LinearForward, w: Weight, packed: PackedRows): Command[] {
  const { count, y, lora, residual, scale = 1 } = op;
  const addition: Addition = residual ? { kind: "residual", residual: residual.range } : { kind: "none" };
  return w.parts.map((part) =>
    tensorProduct(gpu, {
      count,
      x: packed,
      firstXColumn: 0,
      k: w.cols,
      n: part.rows,
      w: part.range,
      format: tensorFormat(w.format),
      transposed: true,
      lora: lora ? { u: lora.u.range, v: rowsFrom(lora.b, part), rank: lora.u.cols } : null,
      addition,
      y,
      firstYColumn: part.firstRow,
      scale,
    }),
  );
}

/** `matmulNN` on subgroup matrices, likewise. */
function tensorNN(gpu: Gpu, op: LinearBackward, w: Weight, packed: PackedRows): Command[] {
  const { count, y, lora, prior, scale = 1 } = op;
  const first: Addition =
    prior === "drop"
      ? { kind: "none" }
      : prior === "add"
        ? { kind: "y" }
        : { kind: "y times rows", rowScale: prior.rowScale };
  return w.parts.map((part, index) =>
    tensorProduct(gpu, {
      count,
      x: packed,
      firstXColumn: part.firstRow,
      k: part.rows,
      n: w.cols,
      w: part.range,
      format: tensorFormat(w.format),
      transposed: false,
      lora: lora && index === 0 ? { u: lora.u.range, v: lora.a.range, rank: lora.u.cols } : null,
      addition: index === 0 ? first : { kind: "y" },
      y,
      firstYColumn: 0,
      scale,
    }),
  );
}

function tensorFormat(format: WeightFormat): "f16" | "f32" {
  if (format === "bf16") throw new Error("internal: a weight in bf16 has no product on subgroup matrices");
  return format;
}

/** Work of X·W and LoRA's second product: `k` the length of the sum, `n` the columns of the result. */
function productWork(
  count: RowCount,
  { k, n, rank, weightBytes }: { k: number; n: number; rank: number; weightBytes: number },
): () => Work {
  return () => ({
    flops: 2 * count.value * n * (k + rank),
    bytes: weightBytes + 4 * (count.value * (k + n + rank) + rank * n),
  });
}

export interface FactorGradient {
  /** T, the rows of P and Q. */
  readonly count: RowCount;
  /** P (T, I). */
  readonly p: Matrix;
  /** Q (T, J). */
  readonly q: Matrix;
  /** Y (I, J), added to. */
  readonly y: Matrix;
}

/** Y += Pᵀ·Q: `kernels/matmul/tn.wgsl`. */
export function matmulTN(gpu: Gpu, { count, p, q, y }: FactorGradient): Command[] {
  expectShapes("matmul/tn", [
    ["Y's rows are P's columns", y.rows, p.cols],
    ["Y's columns are Q's", y.cols, q.cols],
  ]);
  const constants = { ...workgroupShape(q.cols), I_GROUPS: padded(p.cols) / 8, J_GROUPS: padded(q.cols) / 8 };
  return [
    dispatch(
      gpu,
      { kernel: "matmul/tn", constants },
      [uniform(count.uniform), read(p.range), read(q.range), readWrite(y.range)],
      () => workgroupsOver(p.cols, q.cols),
      () => ({
        flops: 2 * count.value * p.cols * q.cols,
        bytes: 4 * (count.value * (padded(p.cols) + padded(q.cols)) + 2 * padded(p.cols) * padded(q.cols)),
      }),
    ),
  ];
}

function asWeight(w: Weight | Matrix): Weight {
  if ("parts" in w) return w;
  const format: WeightFormat = "f32";
  return { format, rows: w.rows, cols: w.cols, parts: [{ range: w.range, firstRow: 0, rows: w.rows }] };
}

/** The rows of B beside a part of W. */
function rowsFrom(b: Matrix, part: WeightPart): BufferRange {
  const rowBytes = padded(b.cols) * 4;
  return {
    buffer: b.range.buffer,
    offsetBytes: b.range.offsetBytes + part.firstRow * rowBytes,
    sizeBytes: padded(part.rows) * rowBytes,
  };
}

function expectShapes(kernel: string, equalities: readonly (readonly [what: string, a: number, b: number])[]): void {
  for (const [what, a, b] of equalities) {
    if (a !== b) throw new Error(`internal: ${kernel}: ${what}, but ${a} is not ${b}`);
  }
}
