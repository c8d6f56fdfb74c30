import type { Numbers } from "../numbers.ts";

// Row-major matrices. Each function names its result's shape (rows, columns) and the length of the sum.

/** Y (m, n) = X (m, k) · Wᵀ, W (n, k): a linear layer. */
export function matmulNT(x: Numbers, w: Numbers, { m, n, k }: { m: number; n: number; k: number }): Float64Array {
  const y = new Float64Array(m * n);
  for (let row = 0; row < m; row++) {
    for (let column = 0; column < n; column++) {
      let sum = 0;
      for (let i = 0; i < k; i++) sum += x[row * k + i]! * w[column * k + i]!;
      y[row * n + column] = sum;
    }
  }
  return y;
}

/** Y (m, k) = X (m, n) · W (n, k): the gradient of a linear layer's input. */
export function matmulNN(x: Numbers, w: Numbers, { m, n, k }: { m: number; n: number; k: number }): Float64Array {
  const y = new Float64Array(m * k);
  for (let row = 0; row < m; row++) {
    for (let i = 0; i < n; i++) {
      const factor = x[row * n + i]!;
      for (let column = 0; column < k; column++) y[row * k + column]! += factor * w[i * k + column]!;
    }
  }
  return y;
}

/** Y (i, j) = Pᵀ · Q, P (t, i), Q (t, j): the gradient of a linear layer's weight. */
export function matmulTN(p: Numbers, q: Numbers, { t, i, j }: { t: number; i: number; j: number }): Float64Array {
  const y = new Float64Array(i * j);
  for (let token = 0; token < t; token++) {
    for (let row = 0; row < i; row++) {
      const factor = p[token * i + row]!;
      for (let column = 0; column < j; column++) y[row * j + column]! += factor * q[token * j + column]!;
    }
  }
  return y;
}

/** Y = X + factor · Z, elementwise. */
export function addScaled(x: Numbers, z: Numbers, factor = 1): Float64Array {
  return Float64Array.from(x, (value, i) => value + factor * z[i]!);
}
