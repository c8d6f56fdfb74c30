import { type BufferRange, read, readWrite, uniform, wholeBuffer } from "../gpu/buffer.ts";
import { type Command, dispatch } from "../gpu/commands.ts";
import type { RowCount } from "../gpu/count.ts";
import type { FragmentShape } from "../gpu/fragment-shape.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { fragmentsOf, tileOf } from "./fragments.ts";
import { type Matrix, padded } from "./matrix.ts";

/** Workspace for the left factor of a product on subgroup matrices: f16 rows, and the power of two of each. */
export interface HalfRows {
  readonly range: BufferRange;
  readonly factor: BufferRange;
}

/** @param cols the widest left factor that it is to take */
export function createHalfRows(gpu: Gpu, label: string, rows: number, cols: number): HalfRows {
  return {
    range: wholeBuffer(gpu.buffer(label, padded(rows) * padded(cols) * 2)),
    factor: wholeBuffer(gpu.buffer(`${label}, factors`, padded(rows) * 4)),
  };
}

/** x as f16, row by row: `kernels/elementwise/pack_rows.wgsl`. */
export function packRows(gpu: Gpu, count: RowCount, x: Matrix, half: HalfRows): Command {
  const groups = padded(x.cols) / 8;
  if (padded(x.rows) * groups * 16 > half.range.sizeBytes) {
    throw new Error(
      `internal: elementwise/pack_rows: ${x.rows} x ${x.cols} do not fit into ${half.range.buffer.label}`,
    );
  }
  return dispatch(
    gpu,
    {
      kernel: "elementwise/pack_rows",
      directives: ["enable f16"],
      prelude: { "const LANES": `${gpu.reductionLanes}u` },
      library: ["pack_f16"],
      constants: { GROUPS: groups },
    },
    [read(x.range), readWrite(half.range), readWrite(half.factor)],
    () => [count.value, 1, 1],
    () => ({ flops: 0, bytes: count.value * groups * (32 + 16) }),
  );
}

const DIRECTIVES = [
  "enable f16",
  "enable subgroups",
  "enable chromium_experimental_subgroup_matrix",
  // Offsets into workgroup memory depend on the subgroup's number, which WGSL's analysis cannot see to be the same in all
  // of its invocations.
  "diagnostic(off, chromium.subgroup_matrix_uniformity)",
];

/** What is added to the product: `PRIOR` of the kernel. */
export type Addition =
  | { readonly kind: "none" }
  | { readonly kind: "y" }
  | { readonly kind: "y times rows"; readonly rowScale: BufferRange }
  | { readonly kind: "residual"; readonly residual: BufferRange };

const PRIOR = { none: 0, y: 1, "y times rows": 2, residual: 3 } as const satisfies Record<Addition["kind"], number>;

export interface TensorProduct {
  readonly count: RowCount;
  readonly shape: FragmentShape;
  /** X, packed by {@link packRows}. */
  readonly half: HalfRows;
  /** Columns of X as it was packed, and the first of them that takes part (a multiple of 8). */
  readonly xCols: number;
  readonly firstXColumn: number;
  /** K, the length of the sum, and N, the columns of the result. */
  readonly k: number;
  readonly n: number;
  /** W in f16: (N, K) where `transposed`, else (K, N). */
  readonly w: BufferRange;
  readonly transposed: boolean;
  /** U (M, rank), and B (N, rank) where `transposed`, else A (rank, N). */
  readonly lora: { readonly u: BufferRange; readonly v: BufferRange; readonly rank: number } | null;
  readonly addition: Addition;
  readonly y: Matrix;
  readonly firstYColumn: number;
  readonly scale: number;
}

/** `kernels/matmul/tensor.wgsl`. */
export function tensorProduct(gpu: Gpu, op: TensorProduct): Command {
  const { count, shape, half, w, lora, addition, y, transposed } = op;
  const { tileM, tileN } = tileOf(shape);
  const sizes = new Uint32Array([
    padded(op.k) / 8,
    padded(op.xCols) / 8,
    op.firstXColumn / 8,
    padded(op.n) / 8,
    padded(y.cols) / 4,
    op.firstYColumn / 4,
    lora ? padded(lora.rank) / 8 : 0,
    0,
  ]);
  new Float32Array(sizes.buffer)[7] = op.scale;
  const addend =
    addition.kind === "residual"
      ? addition.residual
      : addition.kind === "y times rows"
        ? addition.rowScale
        : half.factor;
  return dispatch(
    gpu,
    {
      kernel: "matmul/tensor",
      directives: DIRECTIVES,
      generated: fragmentsOf(shape, transposed),
      library: ["pack_f16"],
      constants: { TRANSPOSED: transposed, PRIOR: PRIOR[addition.kind] },
    },
    [
      uniform(count.uniform),
      uniform(gpu.uniform("sizes of a product", sizes)),
      read(half.range),
      read(half.factor),
      read(w),
      read(lora?.u ?? half.factor),
      read(lora?.v ?? half.factor),
      read(addend),
      readWrite(y.range),
    ],
    () => [Math.ceil(op.n / tileN), Math.ceil(count.value / tileM), 1],
    () => ({
      flops: 2 * count.value * op.n * (op.k + (lora?.rank ?? 0)),
      bytes: 2 * (count.value + op.n) * op.k + 4 * count.value * op.n * (addition.kind === "none" ? 1 : 2),
    }),
  );
}
