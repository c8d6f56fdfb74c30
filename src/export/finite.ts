import type { ExportDtype } from "../config/names.ts";
import { type ExpectedError, InputError, NonFiniteError } from "../errors.ts";
import { printable } from "../text.ts";
import type { FloatDtype } from "../weights/half.ts";
import { LARGEST_VALUE } from "./dtypes.ts";

/** Index of the first element that is NaN or infinite, −1 when there is none. `bytes` as a file holds them. */
export function findNonFinite(dtype: FloatDtype, bytes: Uint8Array): number {
  if (dtype === "F32")
    return findExponent(new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4), 0x7f800000);
  const patterns = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
  return findExponent(patterns, dtype === "BF16" ? 0x7f80 : 0x7c00);
}

function findExponent(patterns: Uint16Array | Uint32Array, mask: number): number {
  for (let i = 0; i < patterns.length; i++) if ((patterns[i]! & mask) === mask) return i;
  return -1;
}

/** An element that is not finite once it is written in the export's dtype. */
export interface NonFiniteElement {
  readonly file: string;
  readonly tensor: string;
  /** [row, column], or [element] of a vector. */
  readonly at: readonly number[];
  /** The base's value. */
  readonly base: number;
  /** What should have been written, before rounding: the base with its update. */
  readonly value: number;
  readonly dtype: ExportDtype;
}

/** Why a value cannot be exported: the base's fault, a dtype that is too narrow, or an update beyond float32. */
export function nonFiniteError({ file, tensor, at, base, value, dtype }: NonFiniteElement): ExpectedError {
  const place = `[${at.join(", ")}]`;
  const name = printable(tensor);
  if (!Number.isFinite(base)) {
    return new InputError(`${printable(file)}: "${name}" must hold finite values, found ${base} at ${place}`);
  }
  if (Math.abs(value) > LARGEST_VALUE.float32 || Number.isNaN(value)) {
    return new NonFiniteError(
      `"${name}": the merged value at ${place} must be a finite float32, found ${shown(value)}; the adapter's factors are too large`,
    );
  }
  const wider = dtype === "float16" ? "bfloat16 or float32" : "float32";
  return new InputError(
    `"${name}": ${shown(value)} at ${place} is beyond ${dtype}, whose largest value is ${shown(LARGEST_VALUE[dtype])}; ` +
      `export in ${wider}`,
  );
}

function shown(value: number): number {
  return Number(value.toPrecision(6));
}
