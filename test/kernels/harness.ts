import { expect } from "vitest";
import { type BufferRange, wholeBuffer } from "../../src/gpu/buffer.ts";
import { type Command, encode } from "../../src/gpu/commands.ts";
import { RowCount } from "../../src/gpu/count.ts";
import { Gpu } from "../../src/gpu/gpu.ts";
import {
  createMatrix,
  createWeight,
  type Matrix,
  padded,
  type Weight,
  type WeightFormat,
} from "../../src/ops/matrix.ts";
import { readKernel } from "../../src/platform/kernels.ts";
import { encodeFloats, type FloatDtype } from "../../src/weights/half.ts";
import { firstDifference, KERNEL_TOLERANCE, type Numbers, relativeError } from "../numbers.ts";

// Runs ops as the model does: matrices with zero padding, more rows in the buffers than the batch has. What a kernel must
// not read (rows past the batch's) is NaN; what it must write is NaN before; what it must leave alone is UNTOUCHED.

/** A NaN whose payload no arithmetic makes. */
export const UNTOUCHED = 0x7fc0beef;

/** Rows that the buffers have beyond those of the batch. */
const SPARE_ROWS = 3;

/** The same device with reductions as on an adapter of this subgroup size. */
export function withLanes({ device }: Gpu, subgroupSize: number): Gpu {
  return new Gpu(device, { kernelSource: readKernel, subgroupSize });
}

/** `rows` rows in a batch, in buffers for a few more. */
export function rowCount(gpu: Gpu, rows: number): RowCount {
  const count = new RowCount(gpu, "test rows", rows + SPARE_ROWS);
  count.set(rows);
  return count;
}

/** A weight-like matrix: (rows, cols) values, padding zero. */
export function constantMatrix(gpu: Gpu, values: Numbers, rows: number, cols: number): Matrix {
  const matrix = createMatrix(gpu, "constant", rows, cols);
  gpu.write(matrix.range.buffer, 0, layOut(matrix, values, new Uint32Array(matrix.range.sizeBytes / 4)));
  return matrix;
}

/** An activation: the batch's rows from `values` (count, cols), padding zero, the rows past them NaN. */
export function inputMatrix(gpu: Gpu, count: RowCount, values: Numbers, cols: number): Matrix {
  const matrix = createMatrix(gpu, "input", count.max, cols);
  gpu.write(matrix.range.buffer, 0, layOut({ ...matrix, rows: count.value }, values, untouchedWords(matrix)));
  return matrix;
}

/** Numbers without rows: tokens, positions, targets, a norm's weight. The buffer is padded with zeros. */
export function inputWords(gpu: Gpu, values: Uint32Array<ArrayBuffer> | Float32Array<ArrayBuffer>): BufferRange {
  const range = wholeBuffer(gpu.buffer("input words", values.byteLength));
  gpu.write(range.buffer, 0, values);
  return range;
}

/** A norm's weight: (cols), padded as a row is. */
export function inputVector(gpu: Gpu, values: Float32Array<ArrayBuffer>): BufferRange {
  const laidOut = new Float32Array(padded(values.length));
  laidOut.set(values);
  return inputWords(gpu, laidOut);
}

const FILE_DTYPE = { bf16: "BF16", f16: "F16", f32: "F32" } as const satisfies Record<WeightFormat, FloatDtype>;

/** A frozen weight in as many parts as the device's binding limit asks for. Values must be exact in its format. */
export function inputWeight(gpu: Gpu, format: WeightFormat, values: Numbers, rows: number, cols: number): Weight {
  const weight = createWeight(gpu, "weight", format, rows, cols);
  writeWeight(gpu, weight, values);
  return weight;
}

/** Puts (rows, cols) values, which must be exact in the weight's format, into its parts. */
export function writeWeight(gpu: Gpu, { format, cols, parts }: Weight, values: Numbers): void {
  for (const part of parts) {
    const laidOut = new Float32Array(padded(part.rows) * padded(cols));
    for (let row = 0; row < part.rows; row++) {
      for (let c = 0; c < cols; c++) laidOut[row * padded(cols) + c] = values[(part.firstRow + row) * cols + c]!;
    }
    const bytes = encodeFloats(FILE_DTYPE[format], laidOut);
    gpu.write(part.range.buffer, 0, new Uint8Array(bytes));
  }
}

/** A buffer that a kernel writes, and what is in it before. */
export interface Output {
  readonly range: BufferRange;
  readonly before: Uint32Array<ArrayBuffer>;
}

export interface OutputMatrix extends Matrix, Output {
  readonly count: RowCount;
}

/** A result for the batch's rows: all NaN, but for the padding of a kernel that leaves padding alone. */
export function outputMatrix(
  gpu: Gpu,
  count: RowCount,
  cols: number,
  padding: "written" | "kept" = "written",
): OutputMatrix {
  const matrix = createMatrix(gpu, "output", count.max, cols);
  const before = untouchedWords(matrix);
  if (padding === "kept") layOut(matrix, new Float32Array(count.max * cols).fill(Number.NaN), before);
  return { ...matrix, before, count };
}

/** A result that starts from `values` (count, cols): for kernels that add to it, or change it in place. */
export function changedMatrix(gpu: Gpu, count: RowCount, values: Numbers, cols: number): OutputMatrix {
  const matrix = createMatrix(gpu, "changed", count.max, cols);
  return { ...matrix, before: layOut({ ...matrix, rows: count.value }, values, untouchedWords(matrix)), count };
}

/** A sum over batches: all of (rows, cols) values, padding zero in rows and columns. */
export function sumMatrix(gpu: Gpu, values: Numbers, rows: number, cols: number): OutputMatrix {
  const matrix = createMatrix(gpu, "sum", rows, cols);
  const count = new RowCount(gpu, "all rows", rows);
  count.set(rows);
  return { ...matrix, before: layOut(matrix, values, new Uint32Array(matrix.range.sizeBytes / 4)), count };
}

/** Numbers without padding that a kernel writes: (count, perRow), all NaN. */
export function outputWords(gpu: Gpu, count: RowCount, perRow: number): Output {
  const range = wholeBuffer(gpu.buffer("output words", count.max * perRow * 4));
  return { range, before: new Uint32Array(range.sizeBytes / 4).fill(UNTOUCHED) };
}

/**
 * What `commands` leave in `outputs`, as bits. They run twice from the same start, and must leave the same bits.
 */
export async function run(gpu: Gpu, commands: readonly Command[], outputs: readonly Output[]): Promise<Uint32Array[]> {
  await gpu.pipelines.ready();
  const results: Uint32Array[][] = [];
  for (let repetition = 0; repetition < 2; repetition++) {
    for (const { range, before } of outputs) gpu.write(range.buffer, range.offsetBytes, before);
    const encoder = gpu.device.createCommandEncoder();
    encode(gpu, encoder, commands);
    gpu.device.queue.submit([encoder.finish()]);
    const copies = await gpu.read(...outputs.map(({ range }) => range));
    results.push(copies.map((copy) => new Uint32Array(copy)));
  }
  for (const [i, bits] of results[0]!.entries()) {
    expect(firstDifference(results[1]![i]!, bits), `output ${i} of a second run`).toBe(-1);
  }
  return results[0]!;
}

/** The batch's rows without padding: (count, cols). Fails where padding is not zero or a row past the batch has changed. */
export function denseRows(bits: Uint32Array, { before, cols, count }: OutputMatrix): Float32Array {
  const stride = padded(cols);
  const values = asFloats(bits);
  const dense = new Float32Array(count.value * cols);
  let nonZeroPadding = 0;
  for (let row = 0; row < count.value; row++) {
    dense.set(values.subarray(row * stride, row * stride + cols), row * cols);
    for (let c = cols; c < stride; c++) if (values[row * stride + c] !== 0) nonZeroPadding++;
  }
  expect(nonZeroPadding, "padding that is not zero").toBe(0);
  expectUntouched(bits, before, count.value * stride);
  return dense;
}

/** The batch's part of an `outputWords`, as f32: (count, perRow). Fails where something past it has changed. */
export function denseWords(bits: Uint32Array, { before }: Output, count: RowCount, perRow: number): Float32Array {
  expectUntouched(bits, before, count.value * perRow);
  return asFloats(bits).subarray(0, count.value * perRow);
}

export function expectRows(
  bits: Uint32Array,
  output: OutputMatrix,
  expected: Numbers,
  tolerance = KERNEL_TOLERANCE,
): void {
  expect(relativeError(denseRows(bits, output), expected)).toBeLessThan(tolerance);
}

export function asFloats(bits: Uint32Array): Float32Array {
  return new Float32Array(bits.buffer, bits.byteOffset, bits.length);
}

function expectUntouched(bits: Uint32Array, before: Uint32Array, first: number): void {
  expect(firstDifference(bits.subarray(first), before.subarray(first)), "past the batch's rows").toBe(-1);
}

function untouchedWords({ range }: Matrix): Uint32Array<ArrayBuffer> {
  return new Uint32Array(range.sizeBytes / 4).fill(UNTOUCHED);
}

/** Writes (rows, cols) values with zero padding into the words of a matrix, and returns these. */
function layOut({ rows, cols }: Matrix, values: Numbers, words: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  if (values.length < rows * cols) throw new Error(`${values.length} values for ${rows} x ${cols}`);
  const floats = new Float32Array(words.buffer);
  const stride = padded(cols);
  for (let row = 0; row < rows; row++) {
    floats.fill(0, row * stride, (row + 1) * stride);
    for (let c = 0; c < cols; c++) floats[row * stride + c] = values[row * cols + c]!;
  }
  return words;
}
