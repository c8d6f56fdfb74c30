import { type BufferRange, read, readWrite, uniform, wholeBuffer } from "../gpu/buffer.ts";
import { type Command, dispatch } from "../gpu/commands.ts";
import type { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { shapeOf } from "./fragment-shapes.ts";
import { type FragmentShape, fragmentsOf, tileOf } from "./fragments.ts";
import type { PackedRows } from "./half-rows.ts";
import { type Matrix, padded } from "./matrix.ts";
import { type PeakSlots, peakOf } from "./peak.ts";
import { TENSOR_DIRECTIVES } from "./tensor.ts";

/** What the gradients of a model's LoRA factors share on subgroup matrices. */
export interface GradientWorkspace {
  /** Sums of the slices of the rows. */
  readonly slices: BufferRange;
  /** A slot for each gradient. */
  readonly peaks: PeakSlots;
}

/** Slices that the rows are cut into at most: enough that a large adapter is busy with the smallest gradients. */
const MAX_SLICES = 32;
/** Elements of all slices' sums that are worth their way through memory. */
const SLICES_ELEMENTS = 2 ** 22;
/** Rows of a slice: a multiple of every shape's step, so that no choice of shape changes a sum. */
const SLICE_ROWS = 256;

/** @param widest columns of the widest matrix beside a factor of this rank */
export function createGradientWorkspace(
  gpu: Gpu,
  rows: number,
  widest: number,
  rank: number,
  peaks: PeakSlots,
): GradientWorkspace {
  const elements = Math.max(SLICES_ELEMENTS, padded(widest) * padded(rank));
  const most = Math.min(elements, slicesOf(rows, 1) * padded(widest) * padded(rank));
  return {
    slices: wholeBuffer(gpu.buffer("slices of a factor's gradient", Math.min(most * 4, gpu.bindingLimitBytes))),
    peaks,
  };
}

/** How many slices `rows` rows of a gradient of so many elements are cut into. */
function slicesOf(rows: number, elements: number): number {
  const worth = Math.floor(SLICES_ELEMENTS / elements);
  return Math.max(1, Math.min(MAX_SLICES, worth, Math.floor(rows / SLICE_ROWS)));
}

export interface TensorGradient {
  /** T, the rows of both. */
  readonly count: RowCount;
  readonly wide: PackedRows;
  /** (T, r) f32. */
  readonly narrow: Matrix;
  /** Whether the narrow matrix is P, on the left. */
  readonly narrowIsLeft: boolean;
  /** Y (I, J), added to. */
  readonly y: Matrix;
  readonly workspace: GradientWorkspace;
  /** How it is built, {@link shapeOf}'s choice if not given. */
  readonly shape?: FragmentShape | undefined;
}

/** Y += Pᵀ·Q: `kernels/elementwise/peak.wgsl`, `kernels/matmul/tensor_tn.wgsl` and, with slices, `add_slices.wgsl`. */
export function tensorGradient(gpu: Gpu, op: TensorGradient): Command[] {
  const { count, wide, narrow, narrowIsLeft, y, workspace } = op;
  const [i, j] = [padded(y.rows), padded(y.cols)];
  const shape = op.shape ?? shapeOf(gpu, { kind: "tn", m: y.rows, n: y.cols, k: count.max });
  const { tileM, tileN } = tileOf(shape);
  const tiles = [Math.ceil(j / tileN), Math.ceil(i / tileM)] as const;
  const slices = Math.min(
    slicesOf(count.max, i * j),
    Math.max(1, Math.floor(workspace.slices.sizeBytes / (i * j * 4))),
  );
  const peak = workspace.peaks.take(1);
  const product = dispatch(
    gpu,
    {
      kernel: "matmul/tensor_tn",
      directives: TENSOR_DIRECTIVES,
      generated: fragmentsOf(shape, "tn", [""]),
      library: ["pack_f16", "peak_scale"],
      constants: { NARROW_IS_LEFT: narrowIsLeft, IS_WHOLE: slices === 1 },
    },
    [
      uniform(count.uniform),
      uniform(gpu.uniform("sizes of a factor's gradient", new Uint32Array([i / 8, j / 8]))),
      read(wide.range),
      read(wide.factor),
      read(narrow.range),
      read(peak),
      readWrite(slices === 1 ? y.range : workspace.slices),
    ],
    () => [...tiles, count.value === 0 ? 0 : slices],
    () => ({
      flops: 2 * count.value * y.rows * y.cols,
      bytes: count.value * (2 * padded(wide.cols) + 4 * padded(narrow.cols)) + 4 * i * j * (slices === 1 ? 2 : slices),
    }),
  );
  const sum = () =>
    dispatch(
      gpu,
      { kernel: "matmul/add_slices" },
      [
        uniform(gpu.uniform("sizes of slices", new Uint32Array([(i * j) / 4, slices]))),
        read(workspace.slices),
        readWrite(y.range),
      ],
      () => [count.value === 0 ? 0 : Math.ceil((i * j) / 4 / 64), 1, 1],
      () => ({ flops: slices * i * j, bytes: 4 * (slices + 2) * i * j }),
    );
  return [peakOf(gpu, { count, x: narrow, factor: wide.factor, peak }), product, ...(slices === 1 ? [] : [sum()])];
}
