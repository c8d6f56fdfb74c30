import { describe, expect, it } from "vitest";
import { formatMarks, formatNumber, formatShortly, paddedRange } from "../../src/report/browser/numbers.ts";

describe("formatNumber", () => {
  it.each([
    [0.504, "0.5040"],
    [-149.7466, "-149.7"],
    [0, "0"],
    [-0, "0"],
    [16384, "16384"],
    [2e-6, "2.000e-6"],
    [123456.7, "123457"],
    [1e21, "1.000e21"],
    [999.96, "1000"],
    [null, "–"],
    [undefined, "–"],
    [Number.NaN, "–"],
    [Number.POSITIVE_INFINITY, "–"],
  ])("%s is %s", (value, text) => expect(formatNumber(value)).toBe(text));
});

it.each([
  [0.5, "0.5"],
  [2e-6, "2e-6"],
  [0.1 + 0.2, "0.3"],
  [16, "16"],
  [1e9, "1e9"],
])("formatShortly(%s) is %s", (value, text) => expect(formatShortly(value)).toBe(text));

describe("formatMarks", () => {
  it.each([
    [[0, 0.25, 0.5, 0.75, 1], 0.25, ["0.00", "0.25", "0.50", "0.75", "1.00"]],
    [[-0.2, -1e-17, 0.2], 0.2, ["-0.2", "0.0", "0.2"]],
    [[0, 0.00025, 0.0005], 0.00025, ["0", "2.5e-4", "5.0e-4"]],
    [[1e6, 2e6], 1e6, ["1e6", "2e6"]],
    [[0.4931, 0.4932], 0.0001, ["0.4931", "0.4932"]],
    [[], 1, []],
  ])("%j", (marks, distance, texts) => expect(formatMarks(marks, distance)).toEqual(texts));
});

describe("paddedRange", () => {
  it("is wider than the values", () => {
    const [low, high] = paddedRange(1, 2);
    expect(low).toBeCloseTo(0.94);
    expect(high).toBeCloseTo(2.06);
  });

  it.each([
    [0, 0, -1, 1],
    [5, 5, 4.5, 5.5],
    [5e-324, 5e-324, -1, 1],
    [0.5, 0.5 + 1e-16, 0.45, 0.55],
  ])("of equal values %s and %s is not empty", (low, high, from, to) => {
    const range = paddedRange(low, high);
    expect(range[0]).toBeCloseTo(from);
    expect(range[1]).toBeCloseTo(to);
  });

  it.each([
    [-Number.MAX_VALUE, Number.MAX_VALUE],
    [Number.MAX_VALUE, Number.MAX_VALUE],
    [1e16, 1e16 + 2],
    [0, 5e-324],
  ])("of %s and %s is finite", (low, high) => {
    const [from, to] = paddedRange(low, high);
    expect(to - from).toBeGreaterThan(0);
    expect(to - from).toBeLessThan(Number.POSITIVE_INFINITY);
  });
});
