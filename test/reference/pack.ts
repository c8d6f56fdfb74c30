import type { Numbers } from "../numbers.ts";

/** Rows of x (rows, cols) and the power of two of each: the one that brings its largest element into [256, 512) or 1. */
export function rowFactors(x: Numbers, rows: number, cols: number): Float64Array {
  return Float64Array.from({ length: rows }, (_, row) => {
    let largest = 0;
    for (let c = 0; c < cols; c++) largest = Math.max(largest, Math.abs(x[row * cols + c]!));
    return largest === 0 ? 1 : 2 ** (Math.floor(Math.log2(largest)) - 8);
  });
}

/** The largest magnitude of x (rows, cols), each row times its factor: Infinity and NaN are larger than any number. */
export function peakMagnitude(x: Numbers, cols: number, factors?: Numbers): number {
  let largest = 0;
  for (let i = 0; i < x.length; i++) {
    const magnitude = Math.abs(x[i]! * (factors?.[Math.floor(i / cols)] ?? 1));
    if (Number.isNaN(magnitude)) return Number.NaN;
    largest = Math.max(largest, magnitude);
  }
  return largest;
}

/** The power of two that brings `peak` into [2^exponent, 2^(exponent + 1)), or 1. */
export function peakScale(peak: number, exponent: number): number {
  return peak === 0 || !Number.isFinite(peak) ? 1 : 2 ** (exponent - Math.floor(Math.log2(peak)));
}
