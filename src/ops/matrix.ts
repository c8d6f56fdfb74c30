import { type BufferRange, type GpuBuffer, wholeBuffer } from "../gpu/buffer.ts";
import type { Work } from "../gpu/commands.ts";
import type { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";

/**
 * Every row of a matrix on the GPU is padded with zeros to a multiple of 8 elements, and matrices have a multiple of 8
 * rows: kernels read vec4 (or eight bf16 at once) and need no edge cases along a row. Zero padding stays zero through
 * every kernel, so it never shows in a result.
 */
export const PADDING = 8;

export function padded(size: number): number {
  return Math.ceil(size / PADDING) * PADDING;
}

/** A row-major f32 matrix on the GPU: `rows` × `cols`, rows of `padded(cols)` elements. */
export interface Matrix {
  readonly range: BufferRange;
  readonly rows: number;
  readonly cols: number;
}

export function matrixBytes(rows: number, cols: number): number {
  return padded(rows) * padded(cols) * 4;
}

/** Work of an elementwise kernel: its matrices' rows are read or written once each. */
export function rowWork(count: RowCount, ...matrices: readonly Matrix[]): () => Work {
  const bytesPerRow = matrices.reduce((sum, { cols }) => sum + 4 * padded(cols), 0);
  return () => ({ flops: 0, bytes: count.value * bytesPerRow });
}

/** A zero-filled f32 matrix. */
export function createMatrix(gpu: Gpu, label: string, rows: number, cols: number): Matrix {
  return { range: wholeBuffer(gpu.buffer(label, matrixBytes(rows, cols))), rows, cols };
}

/**
 * How the elements of a frozen weight are kept. For f32 matmuls: bf16 as in the file, packed two to a u32, or f32 where
 * the file has f16 or f32. For matmuls on subgroup matrices: f16.
 */
export type WeightFormat = "bf16" | "f16" | "f32";

/** Rows `firstRow` to `firstRow + rows` of a weight, in one binding. */
export interface WeightPart {
  readonly range: BufferRange;
  readonly firstRow: number;
  readonly rows: number;
}

/** A frozen row-major weight: `rows` × `cols` (out × in), in one part unless it exceeds the adapter's binding limit. */
export interface Weight {
  readonly format: WeightFormat;
  readonly rows: number;
  readonly cols: number;
  readonly parts: readonly WeightPart[];
}

export function weightRowBytes(format: WeightFormat, cols: number): number {
  return padded(cols) * (format === "f32" ? 4 : 2);
}

/** The file of kernels/library that widens a weight's elements to f32. */
export function widenLibrary(format: WeightFormat): "widen" | "widen_f16" {
  return format === "f16" ? "widen_f16" : "widen";
}

/** Parts begin at a multiple of this many rows: then their offsets, and those of B beside them, are multiples of 256 bytes. */
const PART_ROWS = 64;

/** Rows that a binding can hold: a multiple of {@link PART_ROWS}. */
function bindableRows({ bindingLimitBytes }: Gpu, label: string, rowBytes: number): number {
  const rows = Math.floor(bindingLimitBytes / rowBytes / PART_ROWS) * PART_ROWS;
  if (rows > 0) return rows;
  throw new Error(`internal: ${PART_ROWS} rows of ${label} (${rowBytes} bytes each) exceed the binding limit`);
}

/** A weight at the start of a buffer that several use in turn, in parts as `createWeight` makes them. */
export function weightIn(gpu: Gpu, buffer: GpuBuffer, format: WeightFormat, rows: number, cols: number): Weight {
  const rowBytes = weightRowBytes(format, cols);
  const limitRows = bindableRows(gpu, buffer.label, rowBytes);
  const parts: WeightPart[] = [];
  for (let firstRow = 0; firstRow < rows; firstRow += limitRows) {
    const partRows = Math.min(limitRows, rows - firstRow);
    const range = { buffer, offsetBytes: firstRow * rowBytes, sizeBytes: padded(partRows) * rowBytes };
    parts.push({ range, firstRow, rows: partRows });
  }
  return { format, rows, cols, parts };
}

/** A zero-filled weight, split by rows so that no part exceeds the binding limit. */
export function createWeight(gpu: Gpu, label: string, format: WeightFormat, rows: number, cols: number): Weight {
  const rowBytes = weightRowBytes(format, cols);
  const limitRows = bindableRows(gpu, label, rowBytes);
  const parts: WeightPart[] = [];
  for (let firstRow = 0; firstRow < rows; firstRow += limitRows) {
    const partRows = Math.min(limitRows, rows - firstRow);
    const partLabel = rows > limitRows ? `${label} from row ${firstRow}` : label;
    const range = wholeBuffer(gpu.buffer(partLabel, padded(partRows) * rowBytes));
    parts.push({ range, firstRow, rows: partRows });
  }
  return { format, rows, cols, parts };
}

/** Rows `firstRow` to `firstRow + rows` of one part, as a weight of its own. `firstRow` is a multiple of 64 in the part. */
export function weightSlice(weight: Weight, part: WeightPart, firstRow: number, rows: number): Weight {
  const rowBytes = weightRowBytes(weight.format, weight.cols);
  const range = {
    buffer: part.range.buffer,
    offsetBytes: part.range.offsetBytes + firstRow * rowBytes,
    sizeBytes: padded(rows) * rowBytes,
  };
  return { format: weight.format, rows, cols: weight.cols, parts: [{ range, firstRow: 0, rows }] };
}
