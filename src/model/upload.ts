import type { Gpu } from "../gpu/gpu.ts";
import { padded, type Weight, weightRowBytes } from "../ops/matrix.ts";
import { decodeFloats, type FloatDtype } from "../weights/half.ts";
import type { TensorTarget } from "./base-weights.ts";

/**
 * Puts a run of a tensor's elements, as a file holds them, into its buffer. For a weight the run is whole rows; they are
 * padded, and converted where the buffer keeps another format than the file. The bytes may be reused afterwards.
 */
export function uploadTensor(
  gpu: Gpu,
  target: TensorTarget,
  dtype: FloatDtype,
  firstElement: number,
  bytes: Uint8Array<ArrayBuffer>,
): void {
  if (target.kind === "vector") {
    const values = new Float32Array(bytes.byteLength / (dtype === "F32" ? 4 : 2));
    decodeFloats(dtype, bytes, values);
    gpu.write(target.range.buffer, target.range.offsetBytes + firstElement * 4, values);
    return;
  }
  const { weight } = target;
  const rows = bytes.byteLength / (dtype === "F32" ? 4 : 2) / weight.cols;
  const firstRow = firstElement / weight.cols;
  const laidOut = layOut(weight, dtype, bytes, rows);
  const rowBytes = weightRowBytes(weight.format, weight.cols);
  for (const part of weight.parts) {
    const begin = Math.max(firstRow, part.firstRow);
    const end = Math.min(firstRow + rows, part.firstRow + part.rows);
    if (begin >= end) continue;
    const piece = laidOut.subarray((begin - firstRow) * rowBytes, (end - firstRow) * rowBytes);
    gpu.write(part.range.buffer, part.range.offsetBytes + (begin - part.firstRow) * rowBytes, piece);
  }
}

/** The rows in the weight's own format, each padded with zeros. */
function layOut(weight: Weight, dtype: FloatDtype, bytes: Uint8Array<ArrayBuffer>, rows: number) {
  const rowBytes = weightRowBytes(weight.format, weight.cols);
  const isSameFormat = (weight.format === "bf16" && dtype === "BF16") || (weight.format === "f32" && dtype === "F32");
  let converted = bytes;
  if (!isSameFormat) {
    if (weight.format === "bf16") throw new Error(`internal: ${dtype} weights cannot be kept as bf16`);
    const values = new Float32Array(rows * weight.cols);
    decodeFloats(dtype, bytes, values);
    converted = new Uint8Array(values.buffer);
  }
  if (padded(weight.cols) === weight.cols) return converted;
  const denseRowBytes = converted.byteLength / rows;
  const laidOut = new Uint8Array(rows * rowBytes);
  for (let row = 0; row < rows; row++) {
    laidOut.set(converted.subarray(row * denseRowBytes, (row + 1) * denseRowBytes), row * rowBytes);
  }
  return laidOut;
}
