import type { Numbers } from "../numbers.ts";

/** Rows of x (rows, cols) and the power of two of each: the one that brings its largest element into [256, 512) or 1. */
export function rowFactors(x: Numbers, rows: number, cols: number): Float64Array {
  return Float64Array.from({ length: rows }, (_, row) => {
    let largest = 0;
    for (let c = 0; c < cols; c++) largest = Math.max(largest, Math.abs(x[row * cols + c]!));
    return largest === 0 ? 1 : 2 ** (Math.floor(Math.log2(largest)) - 8);
  });
}
