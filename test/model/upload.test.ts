import { describe, expect, it } from "vitest";
import { wholeBuffer } from "../../src/gpu/buffer.ts";
import type { TensorTarget } from "../../src/model/base-weights.ts";
import { TensorUploader } from "../../src/model/upload.ts";
import { createWeight, padded, type WeightFormat } from "../../src/ops/matrix.ts";
import { encodeFloats, type FloatDtype, f16ToNumber, numberToF16 } from "../../src/weights/half.ts";
import { useDevice } from "../device.ts";
import { firstDifference, roundedToBf16, seededNumbers } from "../numbers.ts";

const device = useDevice();
/** One part holds at most 64 rows of a (·, 36) weight in f32, 128 in bf16. */
const small = useDevice({ bindingLimitBytes: 64 * 40 * 4 });

/** Random values that are exact in `dtype`, and their bytes as a file holds them. */
function fileTensor(length: number, dtype: FloatDtype) {
  const random = seededNumbers(length).normals(length);
  const values =
    dtype === "BF16"
      ? roundedToBf16(random)
      : dtype === "F16"
        ? random.map((x) => f16ToNumber(numberToF16(x)))
        : random;
  return { values, bytes: new Uint8Array(encodeFloats(dtype, values)) };
}

/** A weight's rows with their padding, read back from all its parts, in f32. */
async function readWeight(target: TensorTarget & { kind: "weight" }, gpu: typeof device.gpu): Promise<Float32Array> {
  const { weight } = target;
  const stride = padded(weight.cols);
  const rows = new Float32Array(weight.rows * stride);
  for (const { range, firstRow, rows: partRows } of weight.parts) {
    const [bytes] = await gpu.read(range);
    const values =
      weight.format === "f32"
        ? new Float32Array(bytes!)
        : Float32Array.from(new Uint16Array(bytes!), (bits) => new Float32Array(Uint32Array.of(bits << 16).buffer)[0]!);
    rows.set(values.subarray(0, partRows * stride), firstRow * stride);
    expect(values.subarray(partRows * stride).every((value) => value === 0)).toBe(true);
  }
  return rows;
}

function laidOut(values: Float32Array, rows: number, cols: number): Float32Array {
  const stride = padded(cols);
  const expected = new Float32Array(rows * stride);
  for (let row = 0; row < rows; row++) expected.set(values.subarray(row * cols, (row + 1) * cols), row * stride);
  return expected;
}

function weightTarget(gpu: typeof device.gpu, format: WeightFormat, rows: number, cols: number) {
  return { kind: "weight" as const, weight: createWeight(gpu, "weight", format, rows, cols) };
}

/** Uploads pieces of one tensor, in this order. Returns how many elements f16 rounded, and how many it does not have. */
async function upload(
  gpu: typeof device.gpu,
  target: TensorTarget,
  dtype: FloatDtype,
  pieces: Iterable<readonly [firstElement: number, bytes: Uint8Array<ArrayBuffer>]>,
) {
  const uploader = new TensorUploader(gpu, new Map([["tensor", target]]));
  try {
    for (const [firstElement, bytes] of pieces) await uploader.upload("tensor", dtype, firstElement, bytes);
    return (await uploader.finish()).get("tensor");
  } finally {
    uploader.destroy();
  }
}

const KINDS = [
  { dtype: "BF16", format: "bf16" },
  { dtype: "BF16", format: "f32" },
  { dtype: "F16", format: "f32" },
  { dtype: "F32", format: "f32" },
] as const;

describe.each(KINDS)("a $dtype file kept as $format", ({ dtype, format }) => {
  it.each([
    { rows: 1, cols: 1 },
    { rows: 131, cols: 36 },
    { rows: 5, cols: 64 },
  ])("($rows, $cols) at once and row by row, padded with zeros", async ({ rows, cols }) => {
    const { gpu } = device;
    const { values, bytes } = fileTensor(rows * cols, dtype);
    const [atOnce, byRow] = [weightTarget(gpu, format, rows, cols), weightTarget(gpu, format, rows, cols)];
    await upload(gpu, atOnce, dtype, [[0, bytes]]);
    const rowBytes = bytes.byteLength / rows;
    const byRows = Array.from({ length: rows }, (_, row) => {
      return [row * cols, bytes.subarray(row * rowBytes, (row + 1) * rowBytes)] as const;
    });
    await upload(gpu, byRow, dtype, byRows.reverse());
    for (const target of [atOnce, byRow]) {
      expect(firstDifference(await readWeight(target, gpu), laidOut(values, rows, cols))).toBe(-1);
    }
  });

  it("in pieces that cross the parts of a weight, from a buffer that is used again", async () => {
    const { gpu } = small;
    const [rows, cols] = [131, 36];
    const { values, bytes } = fileTensor(rows * cols, dtype);
    const target = weightTarget(gpu, format, rows, cols);
    expect(target.weight.parts.length).toBe(format === "f32" ? 3 : 2);
    const rowBytes = bytes.byteLength / rows;
    const chunk = new Uint8Array(50 * rowBytes + 1);
    function* pieces() {
      for (let row = 0; row < rows; row += 50) {
        const piece = bytes.subarray(row * rowBytes, Math.min(row + 50, rows) * rowBytes);
        chunk.set(piece, 1); // At an odd address, as a file's header may leave it.
        yield [row * cols, chunk.subarray(1, 1 + piece.byteLength)] as const;
        chunk.fill(0xff);
      }
    }
    await gpu.idle(); // Which keeps a small buffer for readbacks.
    const { liveBytes } = gpu.memory;
    await upload(gpu, target, dtype, pieces());
    expect(gpu.memory.liveBytes).toBe(liveBytes);
    expect(firstDifference(await readWeight(target, gpu), laidOut(values, rows, cols))).toBe(-1);
  });
});

it.each(["BF16", "F16", "F32"] as const)("a norm from a %s file, in pieces", async (dtype) => {
  const { gpu } = device;
  const length = 37;
  const { values, bytes } = fileTensor(length, dtype);
  const target = { kind: "vector" as const, range: wholeBuffer(gpu.buffer("norm", padded(length) * 4)), length };
  const elementBytes = bytes.byteLength / length;
  await upload(gpu, target, dtype, [
    [20, bytes.subarray(20 * elementBytes)],
    [0, bytes.subarray(0, 20 * elementBytes)],
  ]);
  const [read] = await gpu.read(target.range);
  expect(firstDifference(new Float32Array(read!), laidOut(values, 1, length))).toBe(-1);
});

it("counts what f16 does not hold, tensor by tensor", async () => {
  const { gpu } = device;
  const tensors = new Map([
    ["first", weightTarget(gpu, "f16", 2, 3)],
    ["second", weightTarget(gpu, "f16", 1, 8)],
    ["third", weightTarget(gpu, "f16", 1, 1)],
  ]);
  const uploader = new TensorUploader(gpu, tensors);
  const upload = (name: string, firstElement: number, ...values: number[]) =>
    uploader.upload(name, "F32", firstElement, new Uint8Array(Float32Array.from(values).buffer));
  await Promise.all([
    upload("second", 0, 1 + 2 ** -11, 65520, 65504, -1e9, Number.NaN, Number.POSITIVE_INFINITY, 2 ** -24, 0),
    upload("first", 3, 0.1, 0.5, 1e-9),
    upload("first", 0, 0.2, -0, 70_000),
    upload("third", 0, 1),
  ]);
  expect(await uploader.finish()).toEqual(
    new Map([
      ["first", { inexact: 3, overflowing: 1, isNotFinite: false }],
      ["second", { inexact: 1, overflowing: 4, isNotFinite: false }],
      ["third", { inexact: 0, overflowing: 0, isNotFinite: false }],
    ]),
  );
  uploader.destroy();
});

it("refuses to squeeze f16 or f32 into bf16", async () => {
  const { gpu } = device;
  const target = weightTarget(gpu, "bf16", 2, 4);
  for (const dtype of ["F16", "F32"] as const) {
    const { bytes } = fileTensor(8, dtype);
    await expect(upload(gpu, target, dtype, [[0, bytes]])).rejects.toThrow(
      `internal: ${dtype} weights cannot be kept as bf16`,
    );
  }
});

it("refuses a weight of which 64 rows exceed a binding", () => {
  expect(() => createWeight(small.gpu, "wide", "f32", 100, 41)).toThrow(
    "internal: 64 rows of wide (192 bytes each) exceed the binding limit",
  );
});
