// 16-bit floating point to and from float32. Widening is exact, NaN payloads included; narrowing rounds to nearest,
// ties to even (IEEE 754-2019, 4.3.1), overflows to infinity, keeps subnormals and keeps NaN a NaN of the same sign.
//   float32   1 sign, 8 exponent, 23 fraction bits
//   bfloat16  1 sign, 8 exponent,  7 fraction bits: the upper half of a float32
//   float16   1 sign, 5 exponent, 10 fraction bits
// Bulk functions work on bit patterns, because writing a NaN as a number may change its payload.

/** The dtypes that model and adapter files may hold, as safetensors names them. */
export const FLOAT_DTYPES = ["BF16", "F16", "F32"] as const;
export type FloatDtype = (typeof FLOAT_DTYPES)[number];

export function isFloatDtype(dtype: string): dtype is FloatDtype {
  return (FLOAT_DTYPES as readonly string[]).includes(dtype);
}

const FLOAT32_INFINITY = 0x7f800000;
/** 65520 as float32 bits: halfway between the largest float16 and the next power of two, so the first that overflows. */
const FLOAT16_OVERFLOW = 0x477ff000;
/** 2^-14 as float32 bits: the smallest normal float16. */
const FLOAT16_SMALLEST_NORMAL = 0x38800000;
/** 2^-25 as float32 bits: half the smallest subnormal float16, a tie that goes to 0. */
const FLOAT16_UNDERFLOW = 0x33000000;
/** Difference of the exponent biases, 127 − 15, in float32's exponent field. */
const REBIAS = 112 << 23;

/** float16 bits → float32 bits, exactly. */
function widenF16Bits(bits: number): number {
  const sign = (bits & 0x8000) << 16;
  const exponent = (bits >>> 10) & 0x1f;
  let fraction = bits & 0x3ff;
  if (exponent === 0x1f) return (sign | FLOAT32_INFINITY | (fraction << 13)) >>> 0;
  if (exponent > 0) return (sign | ((exponent << 23) + REBIAS) | (fraction << 13)) >>> 0;
  if (fraction === 0) return sign >>> 0;
  // A subnormal, fraction · 2^-24: shift until the leading one stands where float32 implies it.
  const shift = Math.clz32(fraction) - 21;
  fraction = (fraction << shift) & 0x3ff;
  return (sign | ((113 - shift) << 23) | (fraction << 13)) >>> 0;
}

/** float32 bits → bfloat16 bits. */
function roundToBf16Bits(bits: number): number {
  if ((bits & 0x7fffffff) > FLOAT32_INFINITY) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** float32 bits → float16 bits. */
function roundToF16Bits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude >= FLOAT16_OVERFLOW) {
    return magnitude > FLOAT32_INFINITY ? sign | 0x7e00 | ((magnitude >>> 13) & 0x3ff) : sign | 0x7c00;
  }
  if (magnitude >= FLOAT16_SMALLEST_NORMAL) {
    return sign | ((magnitude - REBIAS + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  }
  if (magnitude <= FLOAT16_UNDERFLOW) return sign;
  // A subnormal: the significand with its leading one, shifted to units of 2^-24.
  const shift = 126 - (magnitude >>> 23);
  const significand = (magnitude & 0x7fffff) | 0x800000;
  const quotient = significand >>> shift;
  const halfway = 1 << (shift - 1);
  return sign | ((significand + halfway - 1 + (quotient & 1)) >>> shift);
}

const scratchFloat = new Float32Array(1);
const scratchBits = new Uint32Array(scratchFloat.buffer);

/** A bfloat16 bit pattern as a number. */
export function bf16ToNumber(bits: number): number {
  scratchBits[0] = bits << 16;
  return scratchFloat[0]!;
}

/** A float16 bit pattern as a number. */
export function f16ToNumber(bits: number): number {
  scratchBits[0] = widenF16Bits(bits);
  return scratchFloat[0]!;
}

/** The bfloat16 nearest to a float32. A value that is not a float32 is first rounded to one. */
export function numberToBf16(value: number): number {
  scratchFloat[0] = value;
  return roundToBf16Bits(scratchBits[0]!);
}

/** The float16 nearest to a float32. A value that is not a float32 is first rounded to one. */
export function numberToF16(value: number): number {
  scratchFloat[0] = value;
  return roundToF16Bits(scratchBits[0]!);
}

/** bfloat16 patterns → float32 values. Both of n elements; every element of `target` is written. */
export function widenBf16(source: Uint16Array, target: Float32Array): void {
  const targetBits = bitsOf(target, source.length);
  for (let i = 0; i < source.length; i++) targetBits[i] = source[i]! << 16;
}

/** float16 patterns → float32 values. Both of n elements; every element of `target` is written. */
export function widenF16(source: Uint16Array, target: Float32Array): void {
  const targetBits = bitsOf(target, source.length);
  const table = widenF16Table();
  for (let i = 0; i < source.length; i++) targetBits[i] = table[source[i]!]!;
}

/** float32 values → bfloat16 patterns. Both of n elements; every element of `target` is written. */
export function roundToBf16(source: Float32Array, target: Uint16Array): void {
  const sourceBits = bitsOf(source, target.length);
  for (let i = 0; i < target.length; i++) target[i] = roundToBf16Bits(sourceBits[i]!);
}

/** float32 values → float16 patterns. Both of n elements; every element of `target` is written. */
export function roundToF16(source: Float32Array, target: Uint16Array): void {
  const sourceBits = bitsOf(source, target.length);
  for (let i = 0; i < target.length; i++) target[i] = roundToF16Bits(sourceBits[i]!);
}

/** Little-endian bytes of `dtype`, as files hold them, → float32 values. Bytes at odd addresses are copied first. */
export function decodeFloats(dtype: FloatDtype, bytes: Uint8Array, target: Float32Array): void {
  if (dtype === "BF16") {
    widenBf16(uint16View(bytes), target);
  } else if (dtype === "F16") {
    widenF16(uint16View(bytes), target);
  } else {
    dtype satisfies "F32";
    requireSameLength(bytes.byteLength, target.byteLength);
    new Uint8Array(target.buffer, target.byteOffset, target.byteLength).set(bytes);
  }
}

/** float32 values → little-endian bytes of `dtype`. For F32 the result shares the memory of `source`. */
export function encodeFloats(dtype: FloatDtype, source: Float32Array): Uint8Array {
  if (dtype === "F32") return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  const target = new Uint16Array(source.length);
  if (dtype === "BF16") roundToBf16(source, target);
  else roundToF16(source, target);
  return new Uint8Array(target.buffer);
}

let table: Uint32Array | undefined;

function widenF16Table(): Uint32Array {
  table ??= Uint32Array.from({ length: 0x10000 }, (_, bits) => widenF16Bits(bits));
  return table;
}

function bitsOf(values: Float32Array, requiredLength: number): Uint32Array {
  requireSameLength(values.length, requiredLength);
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

function uint16View(bytes: Uint8Array): Uint16Array {
  requireSameLength(bytes.byteLength % 2, 0);
  // Not slice(), which on a Buffer does not copy.
  const aligned = bytes.byteOffset % 2 === 0 ? bytes : new Uint8Array(bytes);
  return new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 2);
}

function requireSameLength(found: number, required: number): void {
  if (found !== required) throw new RangeError(`internal: half.ts: a length of ${required} was required, got ${found}`);
}
