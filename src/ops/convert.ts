import { type BufferRange, type GpuBuffer, read, readWrite, uniform } from "../gpu/buffer.ts";
import { type Dispatch, dispatch } from "../gpu/commands.ts";
import type { Gpu } from "../gpu/gpu.ts";
import type { FloatDtype } from "../weights/half.ts";
import { DTYPE_NUMBER } from "./float-formats.ts";
import { padded, type WeightFormat, weightRowBytes } from "./matrix.ts";

/** Bytes that the source's buffer must have past the rows in it. */
export const SOURCE_SLACK_BYTES = 32;

/** Words of the uniform that says which rows are converted. */
export const CONVERT_ROWS_WORDS = 5;

const FORMAT_DTYPE = { bf16: "BF16", f16: "F16", f32: "F32" } as const satisfies Record<WeightFormat, FloatDtype>;

const WORKGROUP_SIZE = 64;
/** Elements that an invocation converts. */
const GROUP = 8;
/** Most workgroups in one dimension of a dispatch. */
const MAX_WORKGROUPS = 65_535;

export interface ConvertRows {
  /** Rows of `cols` elements as a file holds them, from the first byte on, and `SOURCE_SLACK_BYTES` more. */
  readonly source: BufferRange;
  readonly dtype: FloatDtype;
  readonly rows: number;
  readonly cols: number;
  /** Of `convertRowsWords`. */
  readonly uniform: GpuBuffer;
  /** A part of a weight in `format`. bf16 takes no other dtype. */
  readonly target: BufferRange;
  readonly format: WeightFormat;
  /** Two u32 for each tensor, added to: elements that f16 rounded, and elements beyond its range. */
  readonly losses: BufferRange;
}

/** A file's rows into a weight: `kernels/weights/convert.wgsl`. */
export function convertRows(gpu: Gpu, op: ConvertRows): Dispatch {
  const target = FORMAT_DTYPE[op.format];
  if (target === "BF16" && op.dtype !== "BF16") {
    throw new Error(`internal: ${op.dtype} weights cannot be kept as bf16`);
  }
  const constants = { SOURCE: DTYPE_NUMBER[op.dtype], TARGET: DTYPE_NUMBER[target] };
  const workgroups = Math.ceil((op.rows * (padded(op.cols) / GROUP)) / WORKGROUP_SIZE);
  const x = Math.min(workgroups, MAX_WORKGROUPS);
  return dispatch(
    gpu,
    { kernel: "weights/convert", library: ["float_formats"], constants },
    [uniform(op.uniform), read(op.source), readWrite(op.target), readWrite(op.losses)],
    () => [x, Math.ceil(workgroups / x), 1],
    () => {
      const elementBytes = op.dtype === "F32" ? 4 : 2;
      return { flops: 0, bytes: op.rows * (op.cols * elementBytes + weightRowBytes(op.format, op.cols)) };
    },
  );
}

/**
 * The uniform of `convertRows`.
 *
 * @param firstRow where the rows go in the target
 * @param tensor index of the tensor's losses
 */
export function convertRowsWords(
  { rows, cols }: Pick<ConvertRows, "rows" | "cols">,
  firstRow: number,
  tensor: number,
): Uint32Array<ArrayBuffer> {
  const groups = padded(cols) / GROUP;
  return Uint32Array.of(cols, groups, rows * groups, firstRow * groups, tensor);
}
