import { describe, expect, test } from "vitest";
import {
  bf16ToNumber,
  decodeFloats,
  encodeFloats,
  f16ToNumber,
  numberToBf16,
  numberToF16,
  roundToBf16,
  roundToF16,
  widenBf16,
  widenF16,
} from "../../src/weights/half.ts";

interface Format {
  name: "BF16" | "F16";
  exponentBits: number;
  fractionBits: number;
  toNumber: (bits: number) => number;
  fromNumber: (value: number) => number;
  widen: (source: Uint16Array, target: Float32Array) => void;
  round: (source: Float32Array, target: Uint16Array) => void;
}

const FORMATS: Format[] = [
  {
    name: "BF16",
    exponentBits: 8,
    fractionBits: 7,
    toNumber: bf16ToNumber,
    fromNumber: numberToBf16,
    widen: widenBf16,
    round: roundToBf16,
  },
  {
    name: "F16",
    exponentBits: 5,
    fractionBits: 10,
    toNumber: f16ToNumber,
    fromNumber: numberToF16,
    widen: widenF16,
    round: roundToF16,
  },
];

/** The value of a pattern by the definition of the format (IEEE 754-2019, 3.4), in float64. */
function referenceValue(format: Format, bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits & 0x7fff) >> format.fractionBits;
  const fraction = (bits & ((1 << format.fractionBits) - 1)) / 2 ** format.fractionBits;
  const bias = 2 ** (format.exponentBits - 1) - 1;
  if (exponent === 2 ** format.exponentBits - 1) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** (1 - bias);
  return sign * (1 + fraction) * 2 ** (exponent - bias);
}

/** Rounding by search: of the two patterns around a value the nearer, at a tie the even one. Independent of bit tricks. */
function referenceRound(format: Format, value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  const infinity = (2 ** format.exponentBits - 1) << format.fractionBits;
  let below = 0;
  let above = infinity;
  while (above - below > 1) {
    const middle = (below + above) >> 1;
    if (referenceValue(format, middle) <= magnitude) below = middle;
    else above = middle;
  }
  // Past the largest finite value the next power of two stands in for infinity.
  const upper = above === infinity ? 2 ** (2 ** (format.exponentBits - 1)) : referenceValue(format, above);
  const toBelow = magnitude - referenceValue(format, below);
  const toAbove = upper - magnitude;
  const nearest = toBelow < toAbove || (toBelow === toAbove && below % 2 === 0) ? below : above;
  return sign | nearest;
}

const ALL_PATTERNS = Uint16Array.from({ length: 0x10000 }, (_, bits) => bits);

function isNaNPattern(format: Format, bits: number): boolean {
  return Number.isNaN(referenceValue(format, bits));
}

describe.each(FORMATS)("$name", (format) => {
  test("all 65,536 patterns widen exactly, one by one and in bulk", () => {
    const bulk = new Float32Array(0x10000).fill(Number.NaN);
    format.widen(ALL_PATTERNS, bulk);
    for (const bits of ALL_PATTERNS) {
      const expected = referenceValue(format, bits);
      if (!Object.is(bulk[bits], expected) || !Object.is(format.toNumber(bits), expected)) {
        expect.fail(`pattern ${bits}: expected ${expected}, got ${bulk[bits]} and ${format.toNumber(bits)}`);
      }
    }
  });

  test("all 65,536 patterns come back from float32; a NaN stays a NaN of its sign", () => {
    const wide = new Float32Array(0x10000);
    const back = new Uint16Array(0x10000);
    format.widen(ALL_PATTERNS, wide);
    format.round(wide, back);
    for (const bits of ALL_PATTERNS) {
      const found = back[bits]!;
      const isSame = isNaNPattern(format, bits)
        ? isNaNPattern(format, found) && (found & 0x8000) === (bits & 0x8000)
        : found === bits;
      if (!isSame) expect.fail(`pattern ${bits} came back as ${found}`);
    }
  });

  test("every NaN of float32 stays a NaN", () => {
    const patterns = Uint32Array.from({ length: 4096 }, (_, i) => {
      const payload = i < 23 ? 1 << i : (Math.imul(i, 0x9e3779b1) >>> 9) | 1;
      return ((i & 1 ? 0xff800000 : 0x7f800000) | payload) >>> 0;
    });
    const rounded = new Uint16Array(patterns.length);
    format.round(new Float32Array(patterns.buffer), rounded);
    patterns.forEach((bits, i) => {
      expect(isNaNPattern(format, rounded[i]!)).toBe(true);
      expect(rounded[i]! & 0x8000).toBe((bits >>> 16) & 0x8000);
    });
    expect(isNaNPattern(format, format.fromNumber(Number.NaN))).toBe(true);
  });

  test("midpoints of neighbours and the float32 values around them round to nearest, ties to even", () => {
    const values: number[] = [];
    const scratch = new Float32Array(1);
    const scratchBits = new Uint32Array(scratch.buffer);
    const infinity = (2 ** format.exponentBits - 1) << format.fractionBits;
    for (let bits = 0; bits < infinity; bits++) {
      const low = referenceValue(format, bits);
      const high = bits + 1 === infinity ? 2 ** (2 ** (format.exponentBits - 1)) : referenceValue(format, bits + 1);
      scratch[0] = low + (high - low) / 2;
      const middle = scratchBits[0]!;
      for (const neighbour of [middle - 1, middle, middle + 1]) {
        scratchBits[0] = neighbour;
        values.push(scratch[0], -scratch[0]);
      }
    }
    expectRounded(format, values);
  });

  test("random float32 patterns of every exponent, and the edges, round to nearest", () => {
    const patterns = new Uint32Array(200_000);
    let state = 12345;
    for (let i = 0; i < patterns.length; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      patterns[i] = state ^ (state << 13);
    }
    const values = [...new Float32Array(patterns.buffer)].filter((value) => !Number.isNaN(value));
    const edges = [0, -0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 65504, 65519.99609375, 65520, 65536];
    edges.push(2 ** 128 - 2 ** 104, 2 ** 128 - 2 ** 120, 2 ** 128 - 2 ** 119, 2 ** -24, 2 ** -25, 2 ** -26);
    edges.push(2 ** -14, 2 ** -149, 2 ** -126, 2 ** -133, 2 ** -134, 1.5 * 2 ** -25, 1 / 3, 1e-45, 1e-40, 6.1e-5);
    expectRounded(format, [...edges, ...edges.map((value) => -value), ...values]);
  });

  test("encodes and decodes the bytes of files, also at odd addresses and from pooled buffers", () => {
    const values = Float32Array.from([1, -2.5, 0, 3.140625, 1e-3]);
    const encoded = encodeFloats(format.name, values);
    expect(encoded.byteLength).toBe(10);
    const shifted = new Uint8Array(13);
    shifted.set(encoded, 3);
    for (const bytes of [encoded, shifted.subarray(3), Buffer.from(shifted.buffer, 3, 10)]) {
      const decoded = new Float32Array(5);
      decodeFloats(format.name, bytes, decoded);
      expect([...decoded]).toEqual([...values].map((value) => format.toNumber(format.fromNumber(value))));
    }
  });
});

function expectRounded(format: Format, values: number[]): void {
  const source = Float32Array.from(values);
  const rounded = new Uint16Array(source.length);
  format.round(source, rounded);
  source.forEach((value, i) => {
    const expected = referenceRound(format, value);
    if (rounded[i] !== expected || format.fromNumber(value) !== expected) {
      expect.fail(`${value}: expected ${expected}, got ${rounded[i]} and ${format.fromNumber(value)}`);
    }
  });
}

test("F32 bytes are copied as they are, NaN payloads included", () => {
  const bytes = Uint8Array.from([0, 0, 128, 63, 1, 0, 160, 127, 0, 0, 0, 128]);
  const decoded = new Float32Array(3);
  const shifted = new Uint8Array(15);
  shifted.set(bytes, 3);
  decodeFloats("F32", shifted.subarray(3), decoded);
  expect(encodeFloats("F32", decoded)).toEqual(bytes);
});

test("lengths that do not match are refused", () => {
  expect(() => widenBf16(new Uint16Array(3), new Float32Array(2))).toThrow(RangeError);
  expect(() => widenF16(new Uint16Array(3), new Float32Array(4))).toThrow(RangeError);
  expect(() => roundToBf16(new Float32Array(3), new Uint16Array(2))).toThrow(RangeError);
  expect(() => roundToF16(new Float32Array(3), new Uint16Array(4))).toThrow(RangeError);
  expect(() => decodeFloats("BF16", new Uint8Array(5), new Float32Array(2))).toThrow(RangeError);
  expect(() => decodeFloats("F32", new Uint8Array(8), new Float32Array(3))).toThrow(RangeError);
});
