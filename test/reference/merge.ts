import { bf16ToNumber, type FloatDtype, f16ToNumber, numberToBf16, numberToF16 } from "../../src/weights/half.ts";
import type { Numbers } from "../numbers.ts";

/**
 * scale · B·A in float32 as the BLAS behind torch computes it on a CPU: fused multiply-adds in the order of the rank, then
 * the factor. A product of two float32 is exact in float64, so each step is rounded to float32 but once. B (m, r), A (r, n).
 */
export function loraUpdate(
  { a, b, scale }: { a: Numbers; b: Numbers; scale: number },
  { m, n, r }: { m: number; n: number; r: number },
): Float32Array {
  const update = new Float32Array(m * n);
  for (let row = 0; row < m; row++) {
    for (let column = 0; column < n; column++) {
      let sum = 0;
      for (let k = 0; k < r; k++) sum = Math.fround(sum + b[row * r + k]! * a[k * n + column]!);
      update[row * n + column] = sum * Math.fround(scale);
    }
  }
  return update;
}

/** The bits of float32 values in a dtype. */
export function patternsOf(dtype: FloatDtype, values: Numbers): Uint16Array | Uint32Array {
  if (dtype === "F32") return new Uint32Array(Float32Array.from(values).buffer);
  return Uint16Array.from(values, dtype === "BF16" ? numberToBf16 : numberToF16);
}

export function roundTo(dtype: FloatDtype, value: number): number {
  if (dtype === "F32") return Math.fround(value);
  return dtype === "BF16" ? bf16ToNumber(numberToBf16(value)) : f16ToNumber(numberToF16(value));
}

export interface Fidelity {
  readonly fidelity: number;
  readonly kept: number;
  readonly error: number;
  readonly changed: number;
}

/** How much of an update arrives in weights rounded to `dtype`: c = round(w + Δ) − round(w) compared with Δ. */
export function fidelityOf(dtype: FloatDtype, w: Numbers, update: Numbers): Fidelity {
  let [squares, along, lost, changed] = [0, 0, 0, 0];
  for (let i = 0; i < w.length; i++) {
    const arrived = roundTo(dtype, Math.fround(w[i]! + update[i]!)) - roundTo(dtype, w[i]!);
    squares += update[i]! ** 2;
    along += arrived * update[i]!;
    lost += (arrived - update[i]!) ** 2;
    if (arrived !== 0) changed++;
  }
  return {
    fidelity: Math.max(0, 1 - lost / squares),
    kept: along / squares,
    error: Math.sqrt(lost / squares),
    changed: changed / w.length,
  };
}
