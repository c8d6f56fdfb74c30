import type { Numbers } from "../numbers.ts";

/** y = x · rstd · w,  rstd = 1 / sqrt(mean(x²) + eps)  (Zhang and Sennrich 2019, equation 4). x, y (T, C); w (C); rstd (T). */
export function rmsNormForward(x: Numbers, w: Numbers, eps: number): { y: Float64Array; rstd: Float64Array } {
  const cols = w.length;
  const rows = x.length / cols;
  const y = new Float64Array(x.length);
  const rstd = new Float64Array(rows);
  for (let t = 0; t < rows; t++) {
    let squares = 0;
    for (let c = 0; c < cols; c++) squares += x[t * cols + c]! ** 2;
    rstd[t] = 1 / Math.sqrt(squares / cols + eps);
    for (let c = 0; c < cols; c++) y[t * cols + c] = x[t * cols + c]! * rstd[t]! * w[c]!;
  }
  return { y, rstd };
}

/** dx = rstd · (w·dy − x · rstd² · mean(w·dy·x)), from y = x · rstd(x) · w. All (T, C); w (C). */
export function rmsNormBackward(x: Numbers, w: Numbers, eps: number, dy: Numbers): Float64Array {
  const cols = w.length;
  const { rstd } = rmsNormForward(x, w, eps);
  const dx = new Float64Array(x.length);
  for (let t = 0; t < rstd.length; t++) {
    let products = 0;
    for (let c = 0; c < cols; c++) products += w[c]! * dy[t * cols + c]! * x[t * cols + c]!;
    for (let c = 0; c < cols; c++) {
      const along = x[t * cols + c]! * rstd[t]! ** 2 * (products / cols);
      dx[t * cols + c] = rstd[t]! * (w[c]! * dy[t * cols + c]! - along);
    }
  }
  return dx;
}
