import { padded } from "../ops/matrix.ts";
import type { FloatDtype } from "../weights/half.ts";
import { DTYPE_BYTES } from "../weights/safetensors-header.ts";

/** Dense rows of `cols` elements → rows padded with zeros as kernels read them: the bytes themselves where none is needed. */
export function padRows(
  bytes: Uint8Array<ArrayBuffer>,
  rows: number,
  cols: number,
  dtype: FloatDtype,
): Uint8Array<ArrayBuffer> {
  return copyRows(bytes, rows, cols * DTYPE_BYTES[dtype], padded(cols) * DTYPE_BYTES[dtype]);
}

/** The inverse of `padRows`. */
export function dropPadding(
  bytes: Uint8Array<ArrayBuffer>,
  rows: number,
  cols: number,
  dtype: FloatDtype,
): Uint8Array<ArrayBuffer> {
  return copyRows(bytes, rows, padded(cols) * DTYPE_BYTES[dtype], cols * DTYPE_BYTES[dtype]);
}

function copyRows(
  source: Uint8Array<ArrayBuffer>,
  rows: number,
  fromRowBytes: number,
  toRowBytes: number,
): Uint8Array<ArrayBuffer> {
  if (fromRowBytes === toRowBytes) return source;
  const copy = new Uint8Array(rows * toRowBytes);
  const length = Math.min(fromRowBytes, toRowBytes);
  for (let row = 0; row < rows; row++) {
    copy.set(source.subarray(row * fromRowBytes, row * fromRowBytes + length), row * toRowBytes);
  }
  return copy;
}
