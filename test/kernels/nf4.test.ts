import { describe, expect, it } from "vitest";
import { type BufferRange, wholeBuffer } from "../../src/gpu/buffer.ts";
import { type Command, encode } from "../../src/gpu/commands.ts";
import { Gpu } from "../../src/gpu/gpu.ts";
import { createWeight, padded, type Weight, type WeightFormat } from "../../src/ops/matrix.ts";
import {
  createNf4Weight,
  dequantizeNf4,
  Nf4Piece,
  type Nf4Weight,
  nf4Blocks,
  nf4Bytes,
  quantizeAbsmax,
  quantizeNf4,
} from "../../src/ops/nf4.ts";
import { readKernel } from "../../src/platform/kernels.ts";
import { dynamicMap } from "../../src/weights/dynamic-map.ts";
import { decodeFloats, encodeFloats, type FloatDtype } from "../../src/weights/half.ts";
import { useDevice } from "../device.ts";
import { type GoldenTensor, readGoldenJson, readTensors } from "../golden/read.ts";
import { seededNumbers } from "../numbers.ts";
import * as reference from "../reference/nf4.ts";
import { UNTOUCHED } from "./harness.ts";

// quantize/nf4_quantize, quantize/nf4_mean, quantize/nf4_absmax and quantize/nf4_dequantize: bit for bit what bitsandbytes
// does (golden files), and what the reference does.

const MAP = dynamicMap(true);
const FORMATS = ["bf16", "f16", "f32"] as const satisfies readonly WeightFormat[];

interface GoldenCase {
  readonly dtype: string;
  readonly shape: readonly [number, number];
  readonly offset_is_the_mean_rounded_once: boolean;
  readonly codes_that_the_cpu_table_moves: number;
}

const golden = readTensors("nf4.safetensors");
const { cases } = readGoldenJson<{ cases: Record<string, GoldenCase> }>("nf4.json");

function goldenTensor(name: string, key: string): GoldenTensor {
  const tensor = golden.get(`${name}/${key}`);
  if (!tensor) throw new Error(`nf4.safetensors has no ${name}/${key}`);
  return tensor;
}

function goldenNumbers(name: string, key: string): Float32Array {
  const { data } = goldenTensor(name, key);
  if (!(data instanceof Float32Array)) throw new Error(`${name}/${key} is not float32`);
  return data;
}

function bytesOf(view: ArrayBufferView): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
}

/** A buffer full of NaN. */
function untouched(gpu: Gpu, label: string, sizeBytes: number): BufferRange {
  const range = wholeBuffer(gpu.buffer(label, sizeBytes));
  fillUntouched(gpu, range);
  return range;
}

function fillUntouched(gpu: Gpu, range: BufferRange): void {
  gpu.write(range.buffer, range.offsetBytes, new Uint32Array(range.sizeBytes / 4).fill(UNTOUCHED));
}

function uploaded(gpu: Gpu, bytes: Uint8Array): BufferRange {
  const range = wholeBuffer(gpu.buffer("uploaded", bytes.byteLength));
  const words = new Uint8Array(range.sizeBytes);
  words.set(bytes);
  gpu.write(range.buffer, 0, words);
  return range;
}

async function submit(gpu: Gpu, commands: readonly Command[]): Promise<void> {
  await gpu.pipelines.ready();
  const encoder = gpu.device.createCommandEncoder();
  encode(gpu, encoder, commands);
  gpu.device.queue.submit([encoder.finish()]);
}

/** A weight in 4 bits whose buffers hold NaN, and room for its absmax in f32. */
function emptyNf4(gpu: Gpu, rows: number, cols: number): { weight: Nf4Weight; absmax: BufferRange } {
  const weight = createNf4Weight(gpu, "weight", rows, cols, uploaded(gpu, bytesOf(MAP)));
  for (const range of [weight.codes, weight.absmaxCodes, weight.absmax2, weight.offset]) fillUntouched(gpu, range);
  // Some more than this tensor needs, as where one buffer serves tensors of several sizes.
  return { weight, absmax: untouched(gpu, "absmax", (nf4Blocks(rows * cols) + 100) * 4) };
}

/** The first level, in pieces of so many elements at most. */
async function quantizePieces(
  gpu: Gpu,
  op: { weight: Nf4Weight; absmax: BufferRange; dtype: FloatDtype; bytes: Uint8Array; pieceElements: number },
): Promise<void> {
  const { weight, absmax, dtype, bytes, pieceElements } = op;
  const elementBytes = dtype === "F32" ? 4 : 2;
  const elements = weight.rows * weight.cols;
  const values = untouched(gpu, "piece", Math.min(elements, pieceElements) * elementBytes);
  const piece = new Nf4Piece(gpu);
  const commands = quantizeNf4(gpu, { piece, values, dtype, weight, absmax });
  for (let first = 0; first < elements; first += pieceElements) {
    const count = Math.min(pieceElements, elements - first);
    const part = bytes.subarray(first * elementBytes, (first + count) * elementBytes);
    // What the file has after the tensor, if its last u32 is not full, must not count.
    const words = new Uint8Array(Math.ceil(part.byteLength / 4) * 4).fill(0x7e);
    words.set(part);
    gpu.write(values.buffer, 0, words);
    piece.set(first, count);
    await submit(gpu, commands);
  }
}

async function readBytes(gpu: Gpu, range: BufferRange, byteCount: number): Promise<Uint8Array> {
  const [bytes] = await gpu.read(range);
  return new Uint8Array(bytes!).subarray(0, byteCount);
}

async function readFloats(gpu: Gpu, range: BufferRange, count: number): Promise<Uint32Array> {
  const [bytes] = await gpu.read(range);
  return new Uint32Array(bytes!).subarray(0, count);
}

/** The values as the dtype holds them. */
function rounded(dtype: FloatDtype, values: Float32Array): Float32Array {
  const held = new Float32Array(values.length);
  decodeFloats(dtype, encodeFloats(dtype, values), held);
  return held;
}

function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(bytesOf(values).buffer);
}

/** What was NaN becomes the weight; returns its elements' bits without padding, and fails where padding is not zero. */
async function dequantized(gpu: Gpu, weight: Nf4Weight, target: Weight): Promise<number[]> {
  for (const part of target.parts) fillUntouched(gpu, part.range);
  await submit(gpu, dequantizeNf4(gpu, weight, target));
  const elements: number[] = [];
  let nonZeroPadding = 0;
  for (const part of target.parts) {
    const [bytes] = await gpu.read(part.range);
    const laidOut = target.format === "f32" ? new Uint32Array(bytes!) : new Uint16Array(bytes!);
    const stride = padded(weight.cols);
    for (const [at, bits] of laidOut.entries()) {
      const isElement = at % stride < weight.cols && at < part.rows * stride;
      if (isElement) elements.push(bits);
      else if (bits !== 0) nonZeroPadding++;
    }
  }
  expect(nonZeroPadding, "padding that is not zero").toBe(0);
  return elements;
}

async function expectDequantized(
  gpu: Gpu,
  weight: Nf4Weight,
  expected: (format: WeightFormat) => ArrayLike<number>,
  formats: readonly WeightFormat[] = FORMATS,
): Promise<void> {
  for (const format of formats) {
    const target = createWeight(gpu, "target", format, weight.rows, weight.cols);
    expect(await dequantized(gpu, weight, target), format).toEqual(Array.from(expected(format)));
  }
}

describe.each(["safe", "fast"] as const)("on a %s device", (profile) => {
  const device = useDevice({ profile });

  describe.each(Object.entries(cases))("bitsandbytes' %s", (name, { shape, offset_is_the_mean_rounded_once }) => {
    const [rows, cols] = shape;
    const blocks = nf4Blocks(rows * cols);

    async function quantized() {
      const { gpu } = device;
      const { weight, absmax } = emptyNf4(gpu, rows, cols);
      const { dtype, data } = goldenTensor(name, "values");
      const bytes = bytesOf(data);
      await quantizePieces(gpu, { weight, absmax, dtype: dtype as FloatDtype, bytes, pieceElements: 2048 });
      return { gpu, weight, absmax };
    }

    it("has the same codes, absmax and values", async () => {
      const { gpu, weight, absmax } = await quantized();
      const codes = goldenTensor(name, "codes").data as Uint8Array;
      expect(await readBytes(gpu, weight.codes, codes.length)).toEqual(codes);
      expect(await readFloats(gpu, absmax, blocks)).toEqual(bitsOf(goldenNumbers(name, "absmax")));

      // From torch's offset on, whose last bits depend on the order in which it adds.
      const secondLevel = quantizeAbsmax(gpu, weight, absmax).slice(1);
      gpu.write(weight.offset.buffer, 0, bytesOf(goldenNumbers(name, "offset")));
      await submit(gpu, secondLevel);
      expect(await readBytes(gpu, weight.absmaxCodes, blocks)).toEqual(goldenTensor(name, "absmax_codes").data);
      const absmax2 = goldenNumbers(name, "absmax2");
      expect(await readFloats(gpu, weight.absmax2, absmax2.length)).toEqual(bitsOf(absmax2));
      await expectDequantized(gpu, weight, (format) => {
        const { data } = goldenTensor(name, `dequantized_${format}`);
        return data instanceof Float32Array ? bitsOf(data) : data;
      });
    });

    it("has the mean of absmax", async () => {
      const { gpu, weight, absmax } = await quantized();
      await submit(gpu, quantizeAbsmax(gpu, weight, absmax));
      const expected = reference.offsetOf(goldenNumbers(name, "absmax"));
      expect(await readFloats(gpu, weight.offset, 1)).toEqual(bitsOf(Float32Array.of(expected)));
      const [torchs] = goldenNumbers(name, "offset");
      expect(torchs === expected).toBe(offset_is_the_mean_rounded_once);
    });
  });

  it.each([
    { rows: 8, cols: 8, dtype: "F32", pieceElements: 64 },
    { rows: 3, cols: 43, dtype: "F16", pieceElements: 64 },
    { rows: 7, cols: 9, dtype: "BF16", pieceElements: 1024 },
    { rows: 131, cols: 136, dtype: "BF16", pieceElements: 5120 },
    { rows: 65, cols: 514, dtype: "F32", pieceElements: 33_408 },
    { rows: 1, cols: 20_001, dtype: "F16", pieceElements: 19_968 },
    { rows: 521, cols: 1, dtype: "F32", pieceElements: 448 },
  ] as const)("$rows x $cols $dtype in pieces of $pieceElements", async ({ rows, cols, dtype, pieceElements }) => {
    const { gpu } = device;
    const values = rounded(dtype, seededNumbers(rows * cols).normals(rows * cols, 0.02));
    const { weight, absmax } = emptyNf4(gpu, rows, cols);
    const bytes = new Uint8Array(encodeFloats(dtype, values));
    await quantizePieces(gpu, { weight, absmax, dtype, bytes, pieceElements });
    await submit(gpu, quantizeAbsmax(gpu, weight, absmax));

    const expected = reference.quantizeTwice(values, MAP);
    const codes = reference.packCodes(expected.codes);
    expect(await readBytes(gpu, weight.codes, codes.length)).toEqual(codes);
    expect(await readFloats(gpu, weight.offset, 1)).toEqual(bitsOf(Float32Array.of(expected.offset)));
    const blocks = expected.absmax.codes.length;
    expect(await readBytes(gpu, weight.absmaxCodes, blocks)).toEqual(expected.absmax.codes);
    const restored = reference.dequantize(expected, MAP);
    await expectDequantized(gpu, weight, (format) => reference.bitsIn(format, restored));
  });

  it.each([1, 2, 63, 1023, 1024, 1025, 40_000])("the mean of %i absmax, rounded once", async (blocks) => {
    const { gpu } = device;
    const random = seededNumbers(blocks);
    const values = random.normals(blocks).map((value) => Math.abs(value) * 10 ** random.integer(-6, 1));
    const { weight, absmax } = emptyNf4(gpu, blocks, 64);
    gpu.write(absmax.buffer, 0, values);
    await submit(gpu, quantizeAbsmax(gpu, weight, absmax).slice(0, 1));
    const expected = Float32Array.of(reference.offsetOf(values));
    expect(await readFloats(gpu, weight.offset, 1)).toEqual(bitsOf(expected));
  });

  it("takes the even code halfway between two", async () => {
    const { gpu } = device;
    // Without an offset and with an absmax2 of 1, what is looked up is exactly halfway.
    const offset = 0;
    const halfways = Array.from({ length: 255 }, (_, i) => Math.fround((MAP[i]! + MAP[i + 1]!) / 2));
    const absmaxValues = Float32Array.from([...halfways, 1]);
    const { weight, absmax } = emptyNf4(gpu, 256, 64);
    gpu.write(absmax.buffer, 0, absmaxValues);
    gpu.write(weight.offset.buffer, 0, Float32Array.of(offset));
    await submit(gpu, quantizeAbsmax(gpu, weight, absmax).slice(1));
    const { codes } = reference.quantizeAbsmax(absmaxValues, offset, MAP);
    expect(codes.subarray(0, 255)).toEqual(Uint8Array.from(halfways, (_, i) => i + (i % 2)));
    expect(await readBytes(gpu, weight.absmaxCodes, 256)).toEqual(codes);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    "does not hide an element that is %d",
    async (element) => {
      const { gpu } = device;
      const values = seededNumbers(7).normals(40 * 64);
      values[1000] = element;
      const { weight, absmax } = emptyNf4(gpu, 40, 64);
      const bytes = bytesOf(values);
      await quantizePieces(gpu, { weight, absmax, dtype: "F32", bytes, pieceElements: 2560 });
      await submit(gpu, quantizeAbsmax(gpu, weight, absmax));
      const [offset] = await readFloats(gpu, weight.offset, 1);
      expect(Number.isFinite(new Float32Array(Uint32Array.of(offset!).buffer)[0])).toBe(false);
      const target = createWeight(gpu, "target", "bf16", 40, 64);
      const finite = (await dequantized(gpu, weight, target)).filter((bits) => (bits & 0x7f80) !== 0x7f80);
      expect(finite).toEqual([]);
    },
  );

  it("counts a block of subnormals as zeros, and leaves the blocks beside it alone", async () => {
    const { gpu } = device;
    const values = seededNumbers(8).normals(3 * 64);
    values.fill(1e-40, 64, 128);
    const { weight, absmax } = emptyNf4(gpu, 3, 64);
    await quantizePieces(gpu, { weight, absmax, dtype: "F32", bytes: bytesOf(values), pieceElements: 192 });
    const expected = reference.packCodes(reference.quantize(values.fill(0, 64, 128)).codes);
    expect(await readBytes(gpu, weight.codes, 96)).toEqual(expected);
  });
});

describe("sizes", () => {
  const device = useDevice();

  it("takes more elements than one row of workgroups does", async () => {
    const { gpu } = device;
    // Zeros but for the two ends.
    const elements = 2 ** 15 * 512 + 64;
    const [rows, cols] = [elements / 64, 64];
    const { weight, absmax } = emptyNf4(gpu, rows, cols);
    const values = wholeBuffer(gpu.buffer("values", elements * 2));
    const [first, last] = [Uint16Array.of(0x3f80, 0xbf80), Uint16Array.of(0xc000, 0x4000)]; // ±1, ∓2 in bf16
    gpu.write(values.buffer, 0, first);
    gpu.write(values.buffer, elements * 2 - 4, last);
    const piece = new Nf4Piece(gpu);
    piece.set(0, elements);
    await submit(gpu, quantizeNf4(gpu, { piece, values, dtype: "BF16", weight, absmax }));
    const codes = await readBytes(gpu, weight.codes, elements / 2);
    expect([codes[0], codes.at(-1)]).toEqual([0xf0, 0x0f]);
    expect(codes.subarray(1, -1).findIndex((byte) => byte !== 0x77)).toBe(-1);
    const largest = await readFloats(gpu, absmax, elements / 64);
    expect([largest[0], largest.at(-1)]).toEqual([0x3f800000, 0x40000000]);
    for (const range of [weight.codes, absmax, values]) gpu.release(range.buffer);
  });

  it.each([37, 40])("fills a target of %i columns that is split by rows", async (cols) => {
    const { gpu } = device;
    const split = new Gpu(gpu.device, { kernelSource: readKernel, bindingLimitBytes: 64 * 40 * 4 });
    const rows = 100;
    const values = seededNumbers(5).normals(rows * cols);
    const { weight, absmax } = emptyNf4(split, rows, cols);
    await quantizePieces(split, { weight, absmax, dtype: "F32", bytes: bytesOf(values), pieceElements: 2048 });
    await submit(split, quantizeAbsmax(split, weight, absmax));
    const target = createWeight(split, "target", "f32", rows, cols);
    expect(target.parts.length).toBe(2);
    const restored = reference.dequantize(reference.quantizeTwice(values, MAP), MAP);
    expect(await dequantized(split, weight, target)).toEqual(Array.from(reference.bitsIn("f32", restored)));
  });

  it.each([
    [1, 1],
    [37, 113],
    [256, 512],
  ])("nf4Bytes(%i, %i) is what the buffers take", (rows, cols) => {
    const { gpu } = device;
    const map = uploaded(gpu, bytesOf(MAP));
    const before = gpu.memory.liveBytes;
    createNf4Weight(gpu, "weight", rows, cols, map);
    expect(nf4Bytes(rows, cols)).toBe(gpu.memory.liveBytes - before);
  });

  it("takes 4.127 bits for each element of a large matrix", () => {
    expect((nf4Bytes(14_336, 4096) * 8) / (14_336 * 4096)).toBeCloseTo(4 + 8 / 64 + 32 / (64 * 256), 4);
  });

  it("refuses what does not fit", () => {
    const { gpu } = device;
    const small = new Gpu(gpu.device, { kernelSource: readKernel, bindingLimitBytes: 1024 });
    const map = uploaded(gpu, bytesOf(MAP));
    expect(() => createNf4Weight(small, "w", 64, 64, map)).toThrow(/internal: w in 4 bits takes 2048 bytes/);
    const { weight, absmax } = emptyNf4(gpu, 64, 64);
    const target = createWeight(gpu, "target", "bf16", 64, 72);
    expect(() => dequantizeNf4(gpu, weight, target)).toThrow("internal: 64 x 64 in 4 bits cannot become 64 x 72");
    const tooSmall = { ...absmax, sizeBytes: 128 };
    expect(() => quantizeAbsmax(gpu, weight, tooSmall)).toThrow(/internal: absmax of 64 x 64 need 256 bytes, got 128/);
    expect(() => new Nf4Piece(gpu).set(32, 64)).toThrow(/internal: a piece must begin with a block/);
  });
});

describe("the reference", () => {
  it.each(Object.entries(cases))("does what bitsandbytes does: %s", (name) => {
    const absmax = goldenNumbers(name, "absmax");
    const [offset] = goldenNumbers(name, "offset");
    const { codes, absmax2 } = reference.quantizeAbsmax(absmax, offset!, MAP);
    expect(codes).toEqual(goldenTensor(name, "absmax_codes").data);
    expect(absmax2).toEqual(goldenNumbers(name, "absmax2"));
  });

  it.each(Object.entries(cases))("is a neighbouring code away from the CPU's table: %s", (name, facts) => {
    const { codes } = reference.quantizeAbsmax(goldenNumbers(name, "absmax"), goldenNumbers(name, "offset")[0]!, MAP);
    const table = goldenTensor(name, "absmax_codes_cpu").data;
    const moved = Array.from(codes, (code, i) => Math.abs(code - table[i]!)).filter((distance) => distance > 0);
    expect(moved.length).toBe(facts.codes_that_the_cpu_table_moves);
    expect(moved.every((distance) => distance === 1)).toBe(true);
  });

  it("loses next to nothing by an offset one unit in the last place off", () => {
    const values = seededNumbers(9).normals(64 * 20_000, 0.02);
    const { absmax } = reference.quantize(values);
    const offset = reference.offsetOf(absmax);
    const [bits] = bitsOf(Float32Array.of(offset));
    const [above] = new Float32Array(Uint32Array.of(bits! + 1).buffer);
    const one = reference.quantizeAbsmax(absmax, offset, MAP);
    const other = reference.quantizeAbsmax(absmax, above!, MAP);
    const distances = Array.from(one.codes, (code, i) => Math.abs(code - other.codes[i]!));
    expect(Math.max(...distances.slice(0, 10_000), ...distances.slice(10_000))).toBeLessThanOrEqual(1);
    expect(distances.filter((distance) => distance > 0).length).toBeLessThan(20);
  });
});
