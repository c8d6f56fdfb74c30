import type { Gpu } from "../gpu/gpu.ts";
import { padded, type Weight, weightRowBytes } from "../ops/matrix.ts";
import { decodeFloats, type FloatDtype } from "../weights/half.ts";
import { toF16 } from "../weights/to-f16.ts";
import type { TensorTarget } from "./base-weights.ts";

/** What became of elements that f16 does not hold: rounded, or beyond its range. */
export interface HalfLoss {
  readonly inexact: number;
  readonly overflowing: number;
}

const NO_LOSS: HalfLoss = { inexact: 0, overflowing: 0 };

/**
 * Puts a run of a tensor's elements, as a file holds them, into its buffer. For a weight the run is whole rows; they are
 * padded, and converted where the buffer keeps another format than the file. The bytes may be reused afterwards.
 *
 * @returns how many elements were not exact in f16, where the buffer keeps that
 */
export function uploadTensor(
  gpu: Gpu,
  target: TensorTarget,
  dtype: FloatDtype,
  firstElement: number,
  bytes: Uint8Array<ArrayBuffer>,
): HalfLoss {
  if (target.kind === "vector") {
    const values = new Float32Array(bytes.byteLength / (dtype === "F32" ? 4 : 2));
    decodeFloats(dtype, bytes, values);
    gpu.write(target.range.buffer, target.range.offsetBytes + firstElement * 4, values);
    return NO_LOSS;
  }
  const { weight } = target;
  const rows = bytes.byteLength / (dtype === "F32" ? 4 : 2) / weight.cols;
  const firstRow = firstElement / weight.cols;
  const { laidOut, loss } = layOut(weight, dtype, bytes, rows);
  const rowBytes = weightRowBytes(weight.format, weight.cols);
  for (const part of weight.parts) {
    const begin = Math.max(firstRow, part.firstRow);
    const end = Math.min(firstRow + rows, part.firstRow + part.rows);
    if (begin >= end) continue;
    const piece = laidOut.subarray((begin - firstRow) * rowBytes, (end - firstRow) * rowBytes);
    gpu.write(part.range.buffer, part.range.offsetBytes + (begin - part.firstRow) * rowBytes, piece);
  }
  return loss;
}

/** The rows in the weight's own format, each padded with zeros. */
function layOut(weight: Weight, dtype: FloatDtype, bytes: Uint8Array<ArrayBuffer>, rows: number) {
  const rowBytes = weightRowBytes(weight.format, weight.cols);
  const { converted, loss } = convert(weight, dtype, bytes, rows);
  if (padded(weight.cols) === weight.cols) return { laidOut: converted, loss };
  const denseRowBytes = converted.byteLength / rows;
  const laidOut = new Uint8Array(rows * rowBytes);
  for (let row = 0; row < rows; row++) {
    laidOut.set(converted.subarray(row * denseRowBytes, (row + 1) * denseRowBytes), row * rowBytes);
  }
  return { laidOut, loss };
}

function convert({ format, cols }: Weight, dtype: FloatDtype, bytes: Uint8Array<ArrayBuffer>, rows: number) {
  switch (format) {
    case "bf16":
      if (dtype !== "BF16") throw new Error(`internal: ${dtype} weights cannot be kept as bf16`);
      return { converted: bytes, loss: NO_LOSS };
    case "f16": {
      const { bits, ...loss } = toF16(dtype, bytes);
      return { converted: new Uint8Array(bits.buffer), loss };
    }
    case "f32": {
      if (dtype === "F32") return { converted: bytes, loss: NO_LOSS };
      const values = new Float32Array(rows * cols);
      decodeFloats(dtype, bytes, values);
      return { converted: new Uint8Array(values.buffer), loss: NO_LOSS };
    }
    default:
      throw new Error(`internal: no conversion to ${format satisfies never}`);
  }
}
