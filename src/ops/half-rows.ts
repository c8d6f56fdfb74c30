import { type BufferRange, read, readWrite, wholeBuffer } from "../gpu/buffer.ts";
import { type Command, dispatch } from "../gpu/commands.ts";
import type { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { type Matrix, padded } from "./matrix.ts";

/** Workspace for a factor of products on subgroup matrices: f16 rows, and the power of two of each. */
export interface HalfRows {
  readonly range: BufferRange;
  /** (T) f32: what row t is to be multiplied by. */
  readonly factor: BufferRange;
}

/** Rows in f16, as they lie in a workspace until it is written again: rows of `padded(cols)` elements. */
export interface PackedRows extends HalfRows {
  readonly cols: number;
}

/** @param cols of the widest factor that it is to take */
export function createHalfRows(gpu: Gpu, label: string, rows: number, cols: number): HalfRows {
  return {
    range: wholeBuffer(gpu.buffer(label, padded(rows) * padded(cols) * 2)),
    factor: wholeBuffer(gpu.buffer(`${label}, factors`, padded(rows) * 4)),
  };
}

/** The workspace as it holds a matrix of `rows` × `cols`. */
export function packedRows(half: HalfRows, rows: number, cols: number): PackedRows {
  if (padded(rows) * padded(cols) * 2 > half.range.sizeBytes) {
    throw new Error(`internal: ${rows} x ${cols} f16 do not fit into ${half.range.buffer.label}`);
  }
  return { ...half, cols };
}

export interface Packing {
  readonly pack: Command;
  readonly packed: PackedRows;
}

/** x as f16, row by row, in `half`: `kernels/elementwise/pack_rows.wgsl`. */
export function packRows(gpu: Gpu, count: RowCount, x: Matrix, half: HalfRows): Packing {
  return pack(gpu, count, [x], ["rows_plain"], half);
}

/** silu(gate) · up as f16 likewise, without a matrix of it in f32. */
export function packSwiglu(gpu: Gpu, count: RowCount, gate: Matrix, up: Matrix, half: HalfRows): Packing {
  return pack(gpu, count, [gate, up], ["sigmoid", "rows_swiglu"], half);
}

function pack(
  gpu: Gpu,
  count: RowCount,
  sources: readonly [Matrix, ...Matrix[]],
  library: readonly string[],
  half: HalfRows,
): Packing {
  const [{ rows, cols }] = sources;
  const packed = packedRows(half, rows, cols);
  const groups = padded(cols) / 8;
  const command = dispatch(
    gpu,
    {
      kernel: "elementwise/pack_rows",
      directives: ["enable f16"],
      prelude: { "const LANES": `${gpu.reductionLanes}u` },
      library: ["pack_f16", ...library],
      constants: { GROUPS: groups },
    },
    [readWrite(half.range), readWrite(half.factor), ...sources.map(({ range }) => read(range))],
    () => [count.value, 1, 1],
    () => ({ flops: 0, bytes: count.value * groups * (32 * sources.length + 16) }),
  );
  return { pack: command, packed };
}
