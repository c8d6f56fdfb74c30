import { bf16ToNumber, decodeFloats, encodeFloats, type FloatDtype, f16ToNumber, numberToF16 } from "./half.ts";

/** Elements of a file as f16, and how many of them f16 does not hold exactly. */
export interface HalfElements {
  readonly bits: Uint16Array<ArrayBuffer>;
  /** Elements that were rounded: for bf16 those other than 0 below 2^-17, and those of more than f16's digits for f32. */
  readonly inexact: number;
  /** Elements beyond ±65504, which f16 does not have, or not finite. */
  readonly overflowing: number;
}

/** f16 of every bfloat16 in the lower half of a word, and what became of it above. */
const INEXACT = 1 << 16;
const OVERFLOWING = 1 << 17;

let bf16Table: Uint32Array | undefined;

/** Rounds to the nearest f16, ties to even. */
export function toF16(dtype: FloatDtype, bytes: Uint8Array<ArrayBuffer>): HalfElements {
  if (dtype === "F16") {
    const bits = new Uint16Array(bytes.slice().buffer);
    let overflowing = 0;
    for (const element of bits) if ((element & 0x7c00) === 0x7c00) overflowing++;
    return { bits, inexact: 0, overflowing };
  }
  if (dtype === "BF16") {
    const source = new Uint16Array(bytes.slice().buffer);
    bf16Table ??= Uint32Array.from({ length: 0x10000 }, (_, bits) => classified(bf16ToNumber(bits)));
    let [inexact, overflowing] = [0, 0];
    for (let i = 0; i < source.length; i++) {
      const entry = bf16Table[source[i]!]!;
      source[i] = entry;
      if (entry < INEXACT) continue;
      if (entry & OVERFLOWING) overflowing++;
      else inexact++;
    }
    return { bits: source, inexact, overflowing };
  }
  const values = new Float32Array(bytes.byteLength / 4);
  decodeFloats(dtype, bytes, values);
  const bits = new Uint16Array(encodeFloats("F16", values).buffer as ArrayBuffer);
  let [inexact, overflowing] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    const back = f16ToNumber(bits[i]!);
    if (!Number.isFinite(back)) overflowing++;
    else if (back !== values[i]) inexact++;
  }
  return { bits, inexact, overflowing };
}

function classified(value: number): number {
  const bits = numberToF16(value);
  const back = f16ToNumber(bits);
  if (!Number.isFinite(back)) return bits | OVERFLOWING;
  return back === value ? bits : bits | INEXACT;
}
