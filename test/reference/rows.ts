import type { Numbers } from "../numbers.ts";

/** y[r] = x[rows[r]]. x (T, C), y (R, C). */
export function gatherRows(x: Numbers, rows: Numbers, cols: number): Float64Array {
  const y = new Float64Array(rows.length * cols);
  for (let r = 0; r < rows.length; r++) {
    for (let c = 0; c < cols; c++) y[r * cols + c] = x[rows[r]! * cols + c]!;
  }
  return y;
}

/** y[rows[r]] = x[r], other rows of y as they were. x (R, C), y (T, C). */
export function scatterRows(x: Numbers, rows: Numbers, cols: number, before: Numbers): Float64Array {
  const y = Float64Array.from(before);
  for (let r = 0; r < rows.length; r++) {
    for (let c = 0; c < cols; c++) y[rows[r]! * cols + c] = x[r * cols + c]!;
  }
  return y;
}
