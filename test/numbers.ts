import { bf16ToNumber, numberToBf16 } from "../src/weights/half.ts";

/** Numbers to compute with in float64, of any typed array. */
export type Numbers = ArrayLike<number>;

/** What a kernel in f32 may differ from float64, relative by norm, where a test derives no other bound. */
export const KERNEL_TOLERANCE = 1e-6;

/** Half a unit in the last place of 1 in f32. */
export const F32_ROUNDING = 2 ** -24;

export interface RandomNumbers {
  /** Uniform in [0, 1). */
  readonly uniform: () => number;
  /** An integer in [low, high]. */
  readonly integer: (low: number, high: number) => number;
  /** `length` independent normal numbers, each rounded to f32. */
  readonly normals: (length: number, deviation?: number) => Float32Array<ArrayBuffer>;
  /** `length` integers in [low, high]. */
  readonly integers: (length: number, low: number, high: number) => Float32Array<ArrayBuffer>;
}

/** Random numbers, the same on every run (mulberry32). */
export function seededNumbers(seed: number): RandomNumbers {
  let state = seed;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const integer = (low: number, high: number) => low + Math.floor(uniform() * (high - low + 1));
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return {
    uniform,
    integer,
    normals: (length, deviation = 1) => Float32Array.from({ length }, () => deviation * normal()),
    integers: (length, low, high) => Float32Array.from({ length }, () => integer(low, high)),
  };
}

/** The values rounded to bf16, still as f32. */
export function roundedToBf16(values: Numbers): Float32Array<ArrayBuffer> {
  return Float32Array.from(values, (value) => bf16ToNumber(numberToBf16(value)));
}

/** ‖actual − expected‖ / ‖size‖, where `size` is `expected` if not given. NaN, which is below no tolerance, where one holds it. */
export function relativeError(actual: Numbers, expected: Numbers, size: Numbers = expected): number {
  if (actual.length !== expected.length) return Number.NaN;
  const error = norm(Float64Array.from(expected, (value, i) => actual[i]! - value));
  return error === 0 ? 0 : error / norm(size);
}

function norm(values: Numbers): number {
  let squares = 0;
  for (let i = 0; i < values.length; i++) squares += values[i]! ** 2;
  return Math.sqrt(squares);
}

/** The largest |actual − expected|, NaN where either holds one. */
export function absoluteError(actual: Numbers, expected: Numbers): number {
  if (actual.length !== expected.length) return Number.NaN;
  let worst = 0;
  for (let i = 0; i < expected.length; i++) worst = Math.max(worst, Math.abs(actual[i]! - expected[i]!));
  return worst;
}

/** Where the bits of two arrays first differ: an index of 32-bit elements, −1 where they do not. */
export function firstDifference(actual: ArrayBufferView, expected: ArrayBufferView): number {
  const [a, b] = [actual, expected].map(
    ({ buffer, byteOffset, byteLength }) => new Uint32Array(buffer, byteOffset, byteLength / 4),
  ) as [Uint32Array, Uint32Array];
  const index = a.findIndex((bits, i) => bits !== b[i]);
  return index === -1 && a.length !== b.length ? a.length : index;
}
