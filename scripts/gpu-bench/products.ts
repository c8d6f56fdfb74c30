import type { BufferRange } from "../../src/gpu/buffer.ts";
import type { Command } from "../../src/gpu/commands.ts";
import { RowCount } from "../../src/gpu/count.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { operandOf } from "../../src/model/linear.ts";
import { createHalfRows, type PackedRows } from "../../src/ops/half-rows.ts";
import { matmulNN, matmulNT, matmulTN } from "../../src/ops/matmul.ts";
import { createMatrix, createWeight, type Matrix, type Weight } from "../../src/ops/matrix.ts";
import { PeakSlots } from "../../src/ops/peak.ts";
import { createGradientWorkspace, tensorGradient } from "../../src/ops/tensor-gradient.ts";
import { encodeFloats } from "../../src/weights/half.ts";
import { type Product, RANK } from "./sizes.ts";

// Our products with random factors, as the model calls them: on subgroup matrices where the device has them.

/** Elements of the block of random numbers that matrices are filled with, again and again. Odd: no two rows are alike. */
const BLOCK = 2 ** 20 - 1;
const WEIGHT_RANGE = 0.04;

/** The dispatches of a product, with all the buffers they need. */
export function productCommands(gpu: Gpu, { use, m, n, k }: Product): Command[] {
  const count = new RowCount(gpu, "bench rows", use === "LoRA factor" ? k : m);
  count.set(count.max);
  const y = createMatrix(gpu, "bench result", m, n);
  const operand = (cols: number) => {
    const half = gpu.fragments ? createHalfRows(gpu, "bench rows in f16", count.max, cols) : null;
    return operandOf(gpu, count, activation(gpu, count.max, cols), half);
  };
  const product = (of: (input: { count: RowCount; x: Matrix; packed: PackedRows | null }) => Command[]): Command[] => {
    const { pack, operand: x } = operand(k);
    return [...pack, ...of({ count, x: x.matrix, packed: x.packed })];
  };
  switch (use) {
    case "forward":
    case "head forward":
      return product((input) => matmulNT(gpu, { ...input, w: weight(gpu, n, k), y }));
    case "forward with LoRA": {
      const lora = { u: activation(gpu, m, RANK), b: factor(gpu, n, RANK) };
      const residual = activation(gpu, m, n);
      return product((input) => matmulNT(gpu, { ...input, w: weight(gpu, n, k), y, lora, residual }));
    }
    case "backward":
    case "head backward":
      return product((input) => matmulNN(gpu, { ...input, w: weight(gpu, k, n), y, prior: "drop" }));
    case "LoRA inner":
      return product((input) => matmulNT(gpu, { ...input, w: factor(gpu, n, k), y }));
    case "LoRA inner backward":
      return product((input) => matmulNN(gpu, { ...input, w: factor(gpu, k, n), y, prior: "drop" }));
    case "LoRA factor": {
      const narrowIsLeft = m === RANK;
      const { pack, operand: wide } = operand(narrowIsLeft ? n : m);
      const narrow = activation(gpu, k, RANK);
      if (!wide.packed) {
        const [p, q] = narrowIsLeft ? [narrow, wide.matrix] : [wide.matrix, narrow];
        return matmulTN(gpu, { count, p, q, y });
      }
      const peaks = new PeakSlots(gpu, 1);
      const workspace = createGradientWorkspace(gpu, k, wide.packed.cols, RANK, peaks);
      return [
        peaks.clear,
        ...pack,
        ...tensorGradient(gpu, { count, wide: wide.packed, narrow, narrowIsLeft, y, workspace }),
      ];
    }
    default:
      return use satisfies never;
  }
}

export const activation = (gpu: Gpu, rows: number, cols: number) => randomMatrix(gpu, rows, cols, 1);
/** A factor of LoRA, of the size that weights have. */
const factor = (gpu: Gpu, rows: number, cols: number) => randomMatrix(gpu, rows, cols, WEIGHT_RANGE);

function randomMatrix(gpu: Gpu, rows: number, cols: number, range: number): Matrix {
  const matrix = createMatrix(gpu, "bench matrix", rows, cols);
  fill(gpu, matrix.range, randomBlock(range));
  return matrix;
}

/** A frozen weight in the format that the device's products take. */
function weight(gpu: Gpu, rows: number, cols: number): Weight {
  const made = createWeight(gpu, "bench weight", gpu.fragments ? "f16" : "bf16", rows, cols);
  const block = encodeFloats(gpu.fragments ? "F16" : "BF16", randomBlock(WEIGHT_RANGE));
  for (const part of made.parts) fill(gpu, part.range, block);
  return made;
}

/** Uniform between −range / 2 and range / 2. */
function randomBlock(range: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(BLOCK);
  let state = 1;
  for (let i = 0; i < BLOCK; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    values[i] = ((state >>> 8) / 2 ** 24 - 0.5) * range;
  }
  return values;
}

/** Writes a block over and over. Rows have no padding here, as every size is a multiple of 8. */
function fill(gpu: Gpu, { buffer }: BufferRange, block: ArrayBufferView): void {
  const bytes = new Uint8Array(block.buffer, block.byteOffset, block.byteLength);
  // Twice: writes are of whole words, and a block of u16 is not.
  const repeated = new Uint8Array(2 * bytes.length);
  repeated.set(bytes, 0);
  repeated.set(bytes, bytes.length);
  for (let offset = 0; offset < buffer.sizeBytes; offset += repeated.length) {
    gpu.write(buffer, offset, repeated.subarray(0, Math.min(repeated.length, buffer.sizeBytes - offset)));
  }
}
