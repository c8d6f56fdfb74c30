import { numberToBf16, numberToF16 } from "../../src/weights/half.ts";
import type { Numbers } from "../numbers.ts";

// NF4 with double quantization (Dettmers et al. 2023, section 3), in f32 where bitsandbytes rounds to f32.

export const BLOCK = 64;
export const ABSMAX_BLOCK = 256;

const VALUES = Float32Array.of(
  ...[-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635],
  ...[-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725],
  ...[0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0],
);

const { fround } = Math;

/** One code to an element, and the largest magnitude of each block. */
export function quantize(values: Numbers): { codes: Uint8Array; absmax: Float32Array } {
  const absmax = blockMaxima(values, BLOCK);
  const codes = Uint8Array.from({ length: values.length }, (_, i) => {
    const largest = absmax[Math.floor(i / BLOCK)]!;
    const x = largest === 0 ? 0 : fround(values[i]! * fround(1 / largest));
    let code = 0;
    while (code < 15 && x > fround((VALUES[code]! + VALUES[code + 1]!) / 2)) code++;
    return code;
  });
  return { codes, absmax };
}

/** Two codes to a byte, the first in the high half; a missing last one is the code of 0. */
export function packCodes(codes: Uint8Array): Uint8Array {
  return Uint8Array.from({ length: Math.ceil(codes.length / 2) }, (_, i) => {
    return (codes[2 * i]! << 4) | (codes[2 * i + 1] ?? 7);
  });
}

/** The mean in float64, rounded once. */
export function offsetOf(absmax: Numbers): number {
  let sum = 0;
  for (let i = 0; i < absmax.length; i++) sum += absmax[i]!;
  return fround(sum / absmax.length);
}

export interface QuantizedAbsmax {
  readonly codes: Uint8Array;
  readonly absmax2: Float32Array;
}

/** absmax − offset as the nearest codes of the ascending `map`; of two equally near ones the even. */
export function quantizeAbsmax(absmax: Numbers, offset: number, map: Float32Array): QuantizedAbsmax {
  const differences = Float32Array.from(absmax, (value) => value - offset);
  const absmax2 = blockMaxima(differences, ABSMAX_BLOCK);
  const codes = Uint8Array.from(differences, (difference, i) => {
    const largest = absmax2[Math.floor(i / ABSMAX_BLOCK)]!;
    return largest === 0 ? 0 : nearestCode(fround(difference * fround(1 / largest)), map);
  });
  return { codes, absmax2 };
}

function nearestCode(x: number, map: Float32Array): number {
  let best = 0;
  for (let code = 1; code < map.length; code++) {
    const halfway = fround((map[code - 1]! + map[code]!) / 2);
    if (x > halfway || (x === halfway && code % 2 === 0)) best = code;
  }
  return best;
}

export interface Quantized {
  /** One to an element. */
  readonly codes: Uint8Array;
  readonly absmax: QuantizedAbsmax;
  readonly offset: number;
}

/** Both levels. */
export function quantizeTwice(values: Numbers, map: Float32Array): Quantized {
  const { codes, absmax } = quantize(values);
  const offset = offsetOf(absmax);
  return { codes, absmax: quantizeAbsmax(absmax, offset, map), offset };
}

export function dequantize({ codes, absmax, offset }: Quantized, map: Float32Array): Float32Array {
  const blocks = Float32Array.from(absmax.codes, (code, i) => {
    return fround(map[code]! * absmax.absmax2[Math.floor(i / ABSMAX_BLOCK)]!) + offset;
  });
  return Float32Array.from(codes, (code, i) => VALUES[code]! * blocks[Math.floor(i / BLOCK)]!);
}

/** The bits of f32 values in a weight's format. */
export function bitsIn(format: "bf16" | "f16" | "f32", values: Float32Array): Uint16Array | Uint32Array {
  switch (format) {
    case "bf16":
      return Uint16Array.from(values, numberToBf16);
    case "f16":
      return Uint16Array.from(values, numberToF16);
    case "f32":
      return new Uint32Array(values.buffer, values.byteOffset, values.length);
    default:
      throw new Error(`no bits in ${format satisfies never}`);
  }
}

function blockMaxima(values: Numbers, block: number): Float32Array {
  const maxima = new Float32Array(Math.ceil(values.length / block));
  for (let i = 0; i < values.length; i++) {
    const b = Math.floor(i / block);
    maxima[b] = Math.max(maxima[b]!, Math.abs(values[i]!));
  }
  return maxima;
}
