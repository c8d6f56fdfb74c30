import { type BufferRange, read, readWrite, uniform } from "../gpu/buffer.ts";
import { type Command, dispatch } from "../gpu/commands.ts";
import type { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { shapeOf } from "./fragment-shapes.ts";
import { type FragmentShape, fragmentsOf, tileOf } from "./fragments.ts";
import type { PackedRows } from "./half-rows.ts";
import { type Matrix, padded } from "./matrix.ts";

/** Of every kernel on subgroup matrices. */
export const TENSOR_DIRECTIVES = [
  "enable f16",
  "enable subgroups",
  "enable chromium_experimental_subgroup_matrix",
  // Offsets into workgroup memory depend on the subgroup's number, which WGSL's analysis cannot see to be the same in all
  // of its invocations.
  "diagnostic(off, chromium.subgroup_matrix_uniformity)",
];

/** What is added to the product: `prior` of the kernel. */
export type Addition =
  | { readonly kind: "none" }
  | { readonly kind: "y" }
  | { readonly kind: "y times rows"; readonly rowScale: BufferRange }
  | { readonly kind: "residual"; readonly residual: BufferRange };

const PRIOR = { none: 0, y: 1, "y times rows": 2, residual: 3 } as const satisfies Record<Addition["kind"], number>;

export interface TensorProduct {
  readonly count: RowCount;
  readonly x: PackedRows;
  /** The first column of X that takes part: a multiple of 8. */
  readonly firstXColumn: number;
  /** K, the length of the sum, and N, the columns of the result. */
  readonly k: number;
  readonly n: number;
  /** W in f16 or f32: (N, K) where `transposed`, else (K, N). */
  readonly w: BufferRange;
  readonly format: "f16" | "f32";
  readonly transposed: boolean;
  /** U (M, rank), and B (N, rank) where `transposed`, else A (rank, N). Only beside W in f16. */
  readonly lora: { readonly u: BufferRange; readonly v: BufferRange; readonly rank: number } | null;
  readonly addition: Addition;
  readonly y: Matrix;
  readonly firstYColumn: number;
  readonly scale: number;
  /** How it is built, {@link shapeOf}'s choice if not given. */
  readonly shape?: FragmentShape | undefined;
}

/** `kernels/matmul/tensor.wgsl`. */
export function tensorProduct(gpu: Gpu, op: TensorProduct): Command {
  const { count, x, w, format, lora, addition, y, transposed, k, n } = op;
  const kind = transposed ? "nt" : "nn";
  const shape = op.shape ?? shapeOf(gpu, { kind, m: count.max, n, k });
  const { tileM, tileN } = tileOf(shape);
  const sizes = new Uint32Array([
    padded(k) / 8,
    padded(x.cols) / 8,
    op.firstXColumn / 8,
    padded(n) / 8,
    padded(y.cols) / 4,
    op.firstYColumn / 4,
    lora ? padded(lora.rank) / 8 : 0,
    0,
    PRIOR[addition.kind],
  ]);
  new Float32Array(sizes.buffer)[7] = op.scale;
  const addend =
    addition.kind === "residual" ? addition.residual : addition.kind === "y times rows" ? addition.rowScale : x.factor;
  return dispatch(
    gpu,
    {
      kernel: "matmul/tensor",
      directives: TENSOR_DIRECTIVES,
      generated: fragmentsOf(shape, kind, ["", "_of_lora"]),
      library: ["pack_f16"],
      constants: {
        TRANSPOSED: transposed,
        R_IS_F32: format === "f32",
        WHOLE_STEPS: k % shape.step === 0,
      },
    },
    [
      uniform(count.uniform),
      uniform(gpu.uniform("sizes of a product", sizes)),
      read(x.range),
      read(x.factor),
      read(w),
      read(lora?.u ?? x.factor),
      read(lora?.v ?? x.factor),
      read(addend),
      readWrite(y.range),
    ],
    () => [Math.ceil(n / tileN), Math.ceil(count.value / tileM), 1],
    () => ({
      flops: 2 * count.value * n * (k + (lora?.rank ?? 0)),
      bytes:
        2 * count.value * k +
        (format === "f16" ? 2 : 4) * n * k +
        4 * count.value * n * (addition.kind === "none" ? 1 : 2),
    }),
  );
}
