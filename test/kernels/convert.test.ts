import { describe, expect, it } from "vitest";
import { wholeBuffer } from "../../src/gpu/buffer.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { convertRows, convertRowsWords, SOURCE_SLACK_BYTES } from "../../src/ops/convert.ts";
import { padded, type WeightFormat, weightRowBytes } from "../../src/ops/matrix.ts";
import type { FloatDtype } from "../../src/weights/half.ts";
import { useDevice } from "../device.ts";
import { firstDifference, seededNumbers } from "../numbers.ts";
import { convertElements } from "../reference/convert.ts";
import { run, UNTOUCHED } from "./harness.ts";

// weights/convert against src/weights/half.ts, bit for bit.

const device = useDevice();

const FORMATS = { BF16: "bf16", F16: "f16", F32: "f32" } as const satisfies Record<FloatDtype, WeightFormat>;

interface Case {
  readonly from: FloatDtype;
  readonly to: FloatDtype;
  readonly rows: number;
  readonly cols: number;
  /** Rows of the weight in front of these. */
  readonly firstRow: number;
}

/** Runs the kernel on a file's bytes. Rows around those written are checked to be left alone. */
async function convert(gpu: Gpu, { from, to, rows, cols, firstRow }: Case, bytes: Uint8Array) {
  const tensor = 2;
  const source = wholeBuffer(gpu.buffer("source", Math.ceil(bytes.byteLength / 4) * 4 + SOURCE_SLACK_BYTES));
  // What lies past the rows must not get into the weight.
  const staged = new Uint8Array(source.sizeBytes).fill(0xa5);
  staged.set(bytes);
  gpu.write(source.buffer, 0, staged);
  const format = FORMATS[to];
  const rowBytes = weightRowBytes(format, cols);
  const target = wholeBuffer(gpu.buffer("weight", (firstRow + rows + 1) * rowBytes));
  const losses = wholeBuffer(gpu.buffer("losses", 4 * 8));
  const uniform = gpu.uniform("rows", convertRowsWords({ rows, cols }, firstRow, tensor));
  const command = convertRows(gpu, { source, dtype: from, rows, cols, uniform, target, format, losses });
  const [found, counts] = await run(
    gpu,
    [command],
    [
      { range: target, before: new Uint32Array(target.sizeBytes / 4).fill(UNTOUCHED) },
      { range: losses, before: new Uint32Array(8) },
    ],
  );
  for (const { buffer } of [source, target, losses]) gpu.release(buffer);
  gpu.release(uniform);

  const begin = (firstRow * rowBytes) / 4;
  const end = begin + (rows * rowBytes) / 4;
  expect(found!.subarray(0, begin).every((word) => word === UNTOUCHED)).toBe(true);
  expect(found!.subarray(end).every((word) => word === UNTOUCHED)).toBe(true);
  expect([...counts!].filter((_, i) => i >> 1 !== tensor)).toEqual([0, 0, 0, 0, 0, 0]);
  const [inexact, overflowing] = counts!.subarray(2 * tensor);
  return { weight: found!.slice(begin, end), inexact, overflowing };
}

/** As the reference converts, with rows padded by zeros. */
function expected({ from, to, rows, cols }: Case, bytes: Uint8Array) {
  const { bytes: dense, inexact, overflowing } = convertElements(from, bytes, to);
  const rowBytes = weightRowBytes(FORMATS[to], cols);
  const weight = new Uint8Array(rows * rowBytes);
  const denseRowBytes = dense.byteLength / rows;
  for (let row = 0; row < rows; row++) {
    weight.set(dense.subarray(row * denseRowBytes, (row + 1) * denseRowBytes), row * rowBytes);
  }
  return { weight: new Uint32Array(weight.buffer), inexact, overflowing };
}

async function expectConverted(gpu: Gpu, operands: Case, bytes: Uint8Array): Promise<void> {
  const [found, wanted] = [await convert(gpu, operands, bytes), expected(operands, bytes)];
  expect(firstDifference(found.weight, wanted.weight)).toBe(-1);
  expect([found.inexact, found.overflowing]).toEqual([wanted.inexact, wanted.overflowing]);
}

const PAIRS = [
  { from: "BF16", to: "BF16" },
  { from: "BF16", to: "F16" },
  { from: "BF16", to: "F32" },
  { from: "F16", to: "F16" },
  { from: "F16", to: "F32" },
  { from: "F32", to: "F16" },
  { from: "F32", to: "F32" },
] as const;

/** Bits of f32: around every f16, half way between neighbours and a bit beside, and random ones, NaN among them. */
function singles(): Uint8Array {
  const bits: number[] = [];
  const value = new Float32Array(1);
  const pattern = new Uint32Array(value.buffer);
  for (let exponent = -27; exponent <= 17; exponent++) {
    for (const fraction of [1, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 1 + 2 ** -10, 2 - 2 ** -11, 2 - 2 ** -10]) {
      for (const sign of [1, -1]) {
        value[0] = sign * fraction * 2 ** exponent;
        bits.push(pattern[0]! - 1, pattern[0]!, pattern[0]! + 1);
      }
    }
  }
  const random = seededNumbers(7);
  for (let i = 0; i < 50_000; i++) bits.push(Math.floor(random.uniform() * 2 ** 32));
  bits.push(0, 0x80000000, 1, 0x80000001, 0x7f800000, 0xff800000, 0x7f800001, 0xffc12345, 0x7fffffff);
  return new Uint8Array(Uint32Array.from(bits).buffer);
}

describe.each(PAIRS)("$from to $to", ({ from, to }) => {
  it("every pattern of 16 bits, or f32 around each kind of rounding", async () => {
    const bytes =
      from === "F32" ? singles() : new Uint8Array(Uint16Array.from({ length: 0x10000 }, (_, i) => i).buffer);
    const elements = bytes.byteLength / (from === "F32" ? 4 : 2);
    await expectConverted(device.gpu, { from, to, rows: 1, cols: elements, firstRow: 1 }, bytes);
  });

  it.each([
    { rows: 1, cols: 1, firstRow: 0 },
    { rows: 5, cols: 3, firstRow: 2 },
    { rows: 9, cols: 8, firstRow: 1 },
    { rows: 7, cols: 37, firstRow: 3 },
    { rows: 3, cols: 321, firstRow: 0 },
  ])("$rows rows of $cols, behind $firstRow others", async (shape) => {
    const elements = shape.rows * shape.cols;
    const random = seededNumbers(elements);
    const bytes = Uint8Array.from({ length: elements * (from === "F32" ? 4 : 2) }, () => random.integer(0, 255));
    await expectConverted(device.gpu, { from, to, ...shape }, bytes);
  });
});

it("takes more rows than one dimension of a dispatch has workgroups for", async () => {
  const [rows, cols] = [65_535 * 64 + 5, 1];
  const bytes = new Uint8Array(Uint16Array.from({ length: rows }, (_, row) => 0x3f80 + (row % 128)).buffer);
  const operands = { from: "BF16", to: "BF16", rows, cols, firstRow: 0 } as const;
  const { weight } = await convert(device.gpu, operands, bytes);
  const wrong = weight.findIndex((word, i) => word !== (i % (padded(cols) / 2) === 0 ? 0x3f80 + ((i / 4) % 128) : 0));
  expect(wrong).toBe(-1);
});

it("refuses to squeeze f16 or f32 into bf16", async () => {
  for (const from of ["F16", "F32"] as const) {
    const operands = { from, to: "BF16", rows: 1, cols: 8, firstRow: 0 } as const;
    await expect(convert(device.gpu, operands, new Uint8Array(32))).rejects.toThrow(
      `internal: ${from} weights cannot be kept as bf16`,
    );
  }
});
