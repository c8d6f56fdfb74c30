import { expect, it } from "vitest";
import { bf16ToNumber, f16ToNumber, numberToF16 } from "../../src/weights/half.ts";
import { toF16 } from "../../src/weights/to-f16.ts";

it("converts every bfloat16, and counts what f16 does not hold", () => {
  const all = Uint16Array.from({ length: 0x10000 }, (_, bits) => bits);

  const { bits, inexact, overflowing } = toF16("BF16", new Uint8Array(all.buffer));

  let [expectedInexact, expectedOverflowing] = [0, 0];
  for (const [source, found] of bits.entries()) {
    const value = bf16ToNumber(source);
    expect(found).toBe(numberToF16(value));
    if (!(Math.abs(value) <= 65504)) expectedOverflowing++;
    else if (f16ToNumber(found) !== value) expectedInexact++;
  }
  expect({ inexact, overflowing }).toEqual({ inexact: expectedInexact, overflowing: expectedOverflowing });
  // bf16 has 8 digits: whatever lies in [2^-17, 65504] is exact in f16.
  const exact = all.filter((source) => {
    const size = Math.abs(bf16ToNumber(source));
    return size >= 2 ** -17 && size <= 65504;
  });
  expect(toF16("BF16", new Uint8Array(exact.buffer)).inexact).toBe(0);
  expect(all[0x8000]).toBe(0x8000); // The source is left alone.
});

it("leaves f16 as it is, and finds infinities and NaN in it", () => {
  const source = Uint16Array.of(0x0001, 0x3c00, 0x7bff, 0x7c00, 0xfc00, 0x7e01);
  expect(toF16("F16", new Uint8Array(source.buffer))).toEqual({ bits: source, inexact: 0, overflowing: 3 });
});

it("rounds f32 to the nearest, and counts", () => {
  const source = Float32Array.of(1, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 65504, 65519, 65520, -1e9, Number.NaN, 2 ** -26);
  const { bits, inexact, overflowing } = toF16("F32", new Uint8Array(source.buffer));
  expect([...bits].slice(0, 5).map(f16ToNumber)).toEqual([1, 1, 1 + 2 ** -9, 65504, 65504]);
  expect({ inexact, overflowing }).toEqual({ inexact: 4, overflowing: 3 });
});
