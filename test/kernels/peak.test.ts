import { describe, expect, it } from "vitest";
import { readWrite, wholeBuffer } from "../../src/gpu/buffer.ts";
import { clear, dispatch } from "../../src/gpu/commands.ts";
import { Gpu } from "../../src/gpu/gpu.ts";
import { peakOf } from "../../src/ops/peak.ts";
import { readKernel } from "../../src/platform/kernels.ts";
import { useDevice } from "../device.ts";
import { seededNumbers } from "../numbers.ts";
import { peakMagnitude, peakScale } from "../reference/pack.ts";
import { asFloats, inputMatrix, inputWords, rowCount, run, UNTOUCHED, withLanes } from "./harness.ts";

const device = useDevice();

/** The peak of (rows, cols) values, in a buffer that held something else, between words that stay as they are. */
async function peakBits(
  gpu: Gpu,
  values: Float32Array,
  rows: number,
  cols: number,
  factors?: Float32Array<ArrayBuffer>,
) {
  const count = rowCount(gpu, rows);
  const range = wholeBuffer(gpu.buffer("peaks", 3 * 256));
  const output = { range, before: new Uint32Array(range.sizeBytes / 4).fill(UNTOUCHED) };
  const x = inputMatrix(gpu, count, values, cols);
  const peak = { buffer: range.buffer, offsetBytes: 256, sizeBytes: 4 };
  const factor = factors ? inputWords(gpu, factors) : null;
  const [bits] = await run(gpu, [clear(peak), peakOf(gpu, { count, x, factor, peak })], [output]);
  expect(bits!.filter((word, i) => i !== 64 && word !== UNTOUCHED)).toEqual(new Uint32Array());
  return bits!.subarray(64, 65);
}

/** Powers of two from 2^-20 to 2^19. */
function powersOfTwo(rows: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: rows }, (_, row) => 2 ** (((row * 7) % 40) - 20));
}

describe("elementwise/peak", () => {
  it.each([
    [1, 1],
    [7, 37],
    [130, 32],
    [65, 520],
    [2000, 264],
  ])("%i rows of %i, exactly", async (rows, cols) => {
    const x = seededNumbers(rows * cols).normals(rows * cols);
    const factors = powersOfTwo(rows);
    expect(asFloats(await peakBits(device.gpu, x, rows, cols))[0]).toBe(peakMagnitude(x, cols));
    expect(asFloats(await peakBits(device.gpu, x, rows, cols, factors))[0]).toBe(peakMagnitude(x, cols, factors));
  });

  it.each([4, 32, 64])("with workgroups of %i", async (lanes) => {
    const [rows, cols] = [33, 129];
    const gpu = withLanes(device.gpu, lanes);
    for (const at of [0, 1, rows * cols - 1]) {
      const x = seededNumbers(lanes).normals(rows * cols);
      x[at] = -77; // Whichever invocation reads it.
      expect(asFloats(await peakBits(gpu, x, rows, cols))[0]).toBe(77);
    }
  });

  it.each([1e-30, 1e-9, 30_000, 3e38])("of about %f", async (size) => {
    const random = seededNumbers(2);
    const x = Float32Array.from({ length: 9 * 20 }, () => (random.uniform() - 0.5) * size);
    expect(asFloats(await peakBits(device.gpu, x, 9, 20))[0]).toBe(peakMagnitude(x, 20));
  });

  it("is zero for zeros of both signs", async () => {
    const x = new Float32Array(9 * 20).fill(-0);
    expect([...(await peakBits(device.gpu, x, 9, 20))]).toEqual([0]);
    expect([...(await peakBits(device.gpu, x, 9, 20, powersOfTwo(9)))]).toEqual([0]);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])("keeps %f", async (value) => {
    for (const factors of [undefined, powersOfTwo(65)]) {
      const x = seededNumbers(3).normals(65 * 37);
      x[64 * 37 + 5] = value;
      expect(asFloats(await peakBits(device.gpu, x, 65, 37, factors))[0]).toBe(Math.abs(value));
    }
  });
});

describe("peak_scale", () => {
  it.each([-3, 0, 8, 14])("brings the peak to 2^%i", async (exponent) => {
    const peaks = [1, 1.9999999, 2, 0.7, 1e-9, 30_000, 3e38, 2e-38, 0, Number.NaN, Number.POSITIVE_INFINITY];
    // A kernel of this test alone, in front of which the library is put as in front of any other.
    const kernel = `
      @group(0) @binding(0) var<storage, read_write> values: array<u32>;
      @compute @workgroup_size(1) fn main(@builtin(workgroup_id) group: vec3u) {
        values[group.x] = bitcast<u32>(peak_scale(values[group.x], ${exponent}));
      }`;
    const kernelSource = (name: string) => (name === "test" ? kernel : readKernel(name));
    const gpu = new Gpu(device.gpu.device, { kernelSource });
    const range = wholeBuffer(gpu.buffer("peaks", 4 * peaks.length));
    const before = new Uint32Array(range.sizeBytes / 4);
    new Float32Array(before.buffer).set(peaks);
    const command = dispatch(gpu, { kernel: "test", library: ["peak_scale"] }, [readWrite(range)], () => [
      peaks.length,
      1,
      1,
    ]);
    const [bits] = await run(gpu, [command], [{ range, before }]);
    for (const [i, peak] of peaks.entries()) {
      const scale = asFloats(bits!)[i]!;
      // The largest and the smallest scale are those whose inverse f32 has too.
      const expected = Math.min(2 ** 126, Math.max(2 ** -126, peakScale(Math.fround(peak), exponent)));
      expect(scale, `of ${peak}`).toBe(expected);
    }
  });
});
