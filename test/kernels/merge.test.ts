import { describe, expect, it } from "vitest";
import { type BufferRange, wholeBuffer } from "../../src/gpu/buffer.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { padded } from "../../src/ops/matrix.ts";
import { createMergeModule, MERGE_SUMS, mergeRows, mergeWorkgroups } from "../../src/ops/merge.ts";
import { bf16ToNumber, FLOAT_DTYPES, type FloatDtype, f16ToNumber } from "../../src/weights/half.ts";
import { useDevice } from "../device.ts";
import { F32_ROUNDING, KERNEL_TOLERANCE, type Numbers, seededNumbers } from "../numbers.ts";
import { loraUpdate, patternsOf, roundTo } from "../reference/merge.ts";
import { constantMatrix, inputMatrix, rowCount, run } from "./harness.ts";

const device = useDevice();

const BYTES = { BF16: 2, F16: 2, F32: 4 } as const satisfies Record<FloatDtype, number>;
const ALL_PATTERNS = Array.from({ length: 0x10000 }, (_, pattern) => pattern);
/** What buffers hold before a kernel writes them. */
const UNTOUCHED = 0x7fc0beef;

interface Case {
  readonly rows: number;
  readonly cols: number;
  readonly rank: number;
  readonly from: FloatDtype;
  readonly to: FloatDtype;
  readonly scale?: number;
  readonly unit?: number;
  /** Bits of W (rows, cols). */
  readonly w: Uint16Array | Uint32Array;
  /** A (rank, cols) and B (rows, rank). */
  readonly a: Numbers;
  readonly b: Numbers;
}

interface Merged {
  /** Bits of V (rows, cols). */
  readonly v: Uint16Array | Uint32Array;
  /** The eight sums, over all workgroups. */
  readonly sums: Float64Array;
}

async function merge({ rows, cols, rank, from, to, scale = 1, unit = 1, w, a, b }: Case): Promise<Merged> {
  const { gpu } = device;
  const count = rowCount(gpu, rows);
  const stride = padded(cols);
  const v = untouched(gpu, count.max * stride * BYTES[to]);
  const workgroups = mergeWorkgroups(gpu, rows, cols);
  const sums = untouched(gpu, mergeWorkgroups(gpu, count.max, cols) * MERGE_SUMS * 4);
  const commands = mergeRows(gpu, {
    count,
    w: inputPatterns(gpu, w, count.max, cols),
    wDtype: from,
    a: constantMatrix(gpu, a, rank, cols),
    b: inputMatrix(gpu, count, b, rank),
    v: v.range,
    vDtype: to,
    sums: sums.range,
    module: createMergeModule(gpu, { cols, rank, scale, unit }),
  });
  const [vWords, sumWords] = await run(gpu, commands, [v, sums]);

  const patterns = to === "F32" ? vWords! : new Uint16Array(vWords!.buffer);
  const dense = patterns.slice(0, rows * cols);
  for (let row = 0; row < rows; row++) {
    dense.set(patterns.subarray(row * stride, row * stride + cols), row * cols);
    expect(patterns.subarray(row * stride + cols, (row + 1) * stride).every((bits) => bits === 0)).toBe(true);
  }
  const end = (rows * stride * BYTES[to]) / 4;
  expect(
    vWords!.subarray(end).every((word) => word === UNTOUCHED),
    "rows past the count",
  ).toBe(true);
  const partials = new Float32Array(sumWords!.buffer).subarray(0, workgroups * MERGE_SUMS);
  const totals = new Float64Array(MERGE_SUMS);
  for (const [i, partial] of partials.entries()) totals[i % MERGE_SUMS]! += partial;
  return { v: dense, sums: totals };
}

function untouched(gpu: Gpu, sizeBytes: number) {
  const range = wholeBuffer(gpu.buffer("output", sizeBytes));
  return { range, before: new Uint32Array(range.sizeBytes / 4).fill(UNTOUCHED) };
}

/** W with zero padding, the rows past the batch's all ones, which is NaN in every dtype. */
function inputPatterns(gpu: Gpu, patterns: Uint16Array | Uint32Array, maxRows: number, cols: number): BufferRange {
  const stride = padded(cols);
  const laidOut =
    patterns instanceof Uint16Array ? new Uint16Array(maxRows * stride) : new Uint32Array(maxRows * stride);
  laidOut.fill(0xffffffff);
  for (let row = 0; row * cols < patterns.length; row++) {
    laidOut.fill(0, row * stride, (row + 1) * stride);
    laidOut.set(patterns.subarray(row * cols, (row + 1) * cols), row * stride);
  }
  const range = wholeBuffer(gpu.buffer("base rows", laidOut.byteLength));
  gpu.write(range.buffer, 0, laidOut);
  return range;
}

/** W alone, with factors of zeros. */
function mergeNothing(from: FloatDtype, to: FloatDtype, w: Uint16Array | Uint32Array): Promise<Merged> {
  const cols = 256;
  const rows = w.length / cols;
  return merge({ rows, cols, rank: 1, from, to, w, a: new Float32Array(cols), b: new Float32Array(rows) });
}

const bitsOf = (value: number) => new Uint32Array(Float32Array.of(value).buffer)[0]!;

/** As float32 bits: every value of a 16-bit dtype, every midpoint of two neighbours, and the float32 beside each. */
function hardValues(widen: (pattern: number) => number): Uint32Array {
  const bits = ALL_PATTERNS.flatMap((pattern) => {
    const value = widen(pattern);
    const next = widen(pattern + 1);
    const middle = Number.isFinite(next) ? (value + next) / 2 : value * (1 + 2 ** -9);
    return [value, middle].flatMap((x) => [bitsOf(x) - 1, bitsOf(x), bitsOf(x) + 1]);
  });
  return Uint32Array.from(bits);
}

function countDifferent(actual: Uint16Array | Uint32Array, expected: Uint16Array | Uint32Array): number {
  expect(actual.length).toBe(expected.length);
  let different = 0;
  for (let i = 0; i < expected.length; i++) if (actual[i] !== expected[i]) different++;
  return different;
}

describe("export/merge rounds", () => {
  it.each([
    ["BF16", bf16ToNumber, 0x7f80],
    ["F16", f16ToNumber, 0x7c00],
  ] as const)("every hard value to %s as half.ts does, which is tested exhaustively", async (to, widen, infinity) => {
    const w = hardValues(widen);
    const { v, sums } = await mergeNothing("F32", to, w);
    const values = new Float32Array(w.buffer);
    // IEEE 754: −0 + 0 is 0.
    const expected = patternsOf(
      to,
      values.map((value) => value + 0),
    );
    let different = 0;
    let notFinite = 0;
    for (let i = 0; i < w.length; i++) {
      if ((expected[i]! & infinity) === infinity) notFinite++;
      const isRight = Number.isNaN(values[i]!) ? (v[i]! & 0x7fff) > infinity : v[i] === expected[i];
      if (!isRight) different++;
    }
    expect(w.length).toBe(6 * 0x10000);
    expect(different).toBe(0);
    expect(sums[7], "elements that are not finite").toBe(notFinite);
  });

  it.each([
    ["BF16", bf16ToNumber],
    ["F16", f16ToNumber],
  ] as const)("nothing when it widens %s, subnormals included", async (from, widen) => {
    const w = Uint16Array.from(ALL_PATTERNS);
    const { v } = await mergeNothing(from, "F32", w);
    const expected = patternsOf(
      "F32",
      Float32Array.from(ALL_PATTERNS, (pattern) => widen(pattern) + 0),
    );
    const isNumber = (i: number) => !Number.isNaN(widen(i));
    expect(
      countDifferent(
        v.filter((_, i) => isNumber(i)),
        expected.filter((_, i) => isNumber(i)),
      ),
    ).toBe(0);
    expect(new Float32Array(v.buffer).filter(Number.isNaN).length).toBe(
      ALL_PATTERNS.length - ALL_PATTERNS.filter(isNumber).length,
    );
  });

  it.each(FLOAT_DTYPES)("a %s base to itself without a change", async (dtype) => {
    const w = patternsOf(dtype, seededNumbers(3).normals(256 * 9));
    const { v, sums } = await mergeNothing(dtype, dtype, w);
    expect(countDifferent(v, w)).toBe(0);
    expect([...sums.subarray(0, 3), ...sums.subarray(4)]).toEqual([0, 0, 0, 0, 0, 0, 0]);
  });
});

const SHAPES = [
  { rows: 1, cols: 1, rank: 1, scale: 1 },
  { rows: 7, cols: 5, rank: 3, scale: 2 },
  { rows: 9, cols: 33, rank: 8, scale: 1 / 3 },
  { rows: 65, cols: 130, rank: 17, scale: 1.7 },
  { rows: 130, cols: 64, rank: 32, scale: 16 / Math.sqrt(32) },
];

describe.each(FLOAT_DTYPES)("export/merge of a %s base", (from) => {
  it.each(FLOAT_DTYPES)("to %s: the bits of float32 arithmetic, and what the rounding kept", async (to) => {
    for (const { rows, cols, rank, scale } of SHAPES) {
      const random = seededNumbers(rows);
      const w = patternsOf(from, random.normals(rows * cols, 0.05));
      const values = Float64Array.from(valuesOf(from, w));
      const [a, b] = [random.normals(rank * cols, 0.05), random.normals(rows * rank, 0.01)];
      const unit = 2 ** 10;
      const { v, sums } = await merge({ rows, cols, rank, from, to, scale, unit, w, a, b });

      const update = loraUpdate({ a, b, scale }, { m: rows, n: cols, r: rank });
      const sum = values.map((value, i) => Math.fround(value + update[i]!));
      expect(countDifferent(v, patternsOf(to, sum)), `${rows} x ${cols}, rank ${rank}`).toBe(0);
      const arrived = (dtype: FloatDtype) => sum.map((value, i) => roundTo(dtype, value) - roundTo(dtype, values[i]!));
      const [own, f16] = [arrived(to), arrived("F16")];
      const dot = (x: Numbers, y: Numbers) => Array.from(x).reduce((total, value, i) => total + value * y[i]!, 0);
      const lost = (x: Float64Array) => x.map((value, i) => value - update[i]!);
      const expected = [
        dot(update, update) * unit ** 2,
        dot(own, update) * unit ** 2,
        dot(lost(own), lost(own)) * unit ** 2,
        dot(values, values),
        dot(f16, update) * unit ** 2,
        dot(lost(f16), lost(f16)) * unit ** 2,
        own.filter((value) => value !== 0).length,
        0,
      ];
      for (const [i, value] of expected.entries()) {
        // c is rounded once: that is nothing beside what 16 bits lose, but not beside what float32 loses.
        const rounding = i === 2 || i === 5 ? 2 * F32_ROUNDING * Math.sqrt(value * expected[0]!) : 0;
        const difference = Math.abs(sums[i]! - value);
        expect(difference, `${rows} x ${cols}: sum ${i}`).toBeLessThanOrEqual(KERNEL_TOLERANCE * value + rounding);
      }
    }
  });
});

function valuesOf(dtype: FloatDtype, patterns: Uint16Array | Uint32Array): Float32Array {
  if (dtype === "F32") return new Float32Array(patterns.buffer);
  return Float32Array.from(patterns, dtype === "BF16" ? bf16ToNumber : f16ToNumber);
}

describe("export/merge", () => {
  it("counts what the update makes infinite, or beyond the dtype", async () => {
    const [rows, cols] = [3, 10];
    const w = patternsOf("F32", new Float32Array(rows * cols).fill(60000));
    const a = new Float32Array(cols).fill(1);
    const b = Float32Array.of(0, 5519, 5520); // 65520 is the first that float16 rounds to infinity
    const { v, sums } = await merge({ rows, cols, rank: 1, from: "F32", to: "F16", w, a, b });
    expect(sums[7]).toBe(cols);
    expect(v[cols]).toBe(0x7bff);
    expect(v[2 * cols]).toBe(0x7c00);
  });

  it("refuses factors that do not fit together", () => {
    const { gpu } = device;
    const matrix = (rows: number, cols: number) => constantMatrix(gpu, new Float32Array(rows * cols), rows, cols);
    const { range } = matrix(2, 2);
    const module = createMergeModule(gpu, { cols: 2, rank: 3, scale: 1, unit: 1 });
    const op = {
      count: rowCount(gpu, 2),
      module,
      w: range,
      wDtype: "F32",
      v: range,
      vDtype: "F32",
      sums: range,
    } as const;
    expect(() => mergeRows(gpu, { ...op, a: matrix(3, 2), b: matrix(2, 4) })).toThrow(
      "internal: export/merge: A's rows are B's columns, but 3 is not 4",
    );
  });
});
