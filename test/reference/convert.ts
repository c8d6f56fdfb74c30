import { decodeFloats, encodeFloats, type FloatDtype } from "../../src/weights/half.ts";

// The reference of kernels/weights/convert.wgsl, on src/weights/half.ts, whose own tests go through all patterns.

export interface ConvertedElements {
  /** Elements of the target dtype as a file holds them, without padding. */
  readonly bytes: Uint8Array;
  /** Where the target is F16: elements that were rounded, and those that are not finite in it. */
  readonly inexact: number;
  readonly overflowing: number;
}

/** A file's elements in another dtype, or the same. */
export function convertElements(from: FloatDtype, bytes: Uint8Array, to: FloatDtype): ConvertedElements {
  const values = new Float32Array(bytes.byteLength / (from === "F32" ? 4 : 2));
  decodeFloats(from, bytes, values);
  const converted = from === to ? bytes : encodeFloats(to, values);
  let [inexact, overflowing] = [0, 0];
  if (to === "F16") {
    const narrowed = new Float32Array(values.length);
    decodeFloats("F16", converted, narrowed);
    for (const [i, value] of narrowed.entries()) {
      if (!Number.isFinite(value)) overflowing++;
      else if (value !== values[i]) inexact++;
    }
  }
  return { bytes: Uint8Array.from(converted), inexact, overflowing };
}
