import { type BufferRange, wholeBuffer } from "../../src/gpu/buffer.ts";
import type { Command } from "../../src/gpu/commands.ts";
import { RowCount } from "../../src/gpu/count.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { writeMatrix } from "../../src/model/lora.ts";
import { createMatrix, createWeight, type Matrix, padded, type Weight } from "../../src/ops/matrix.ts";
import { encodeFloats } from "../../src/weights/half.ts";
import type { MatmulShape } from "./baseline.ts";

/** What a dispatch does, by the measure that bounds its kind: arithmetic, or bytes that must be read and written at least. */
export type Work = { readonly flops: number } | { readonly bytes: number };

/** A kernel at one shape. */
export interface BenchCase {
  /** As its file below `kernels/`. */
  readonly kernel: string;
  readonly shape: string;
  /** Null where a dispatch does so little that only its own cost counts. */
  readonly work: Work | null;
  /** Of the same product by a plain kernel, where there is one to compare with. */
  readonly plain?: MatmulShape;
  /** Makes the buffers and lists the dispatch. Called once, then all that it made is released. */
  readonly commands: (gpu: Gpu) => readonly Command[];
}

/** The commands of an op that dispatch one of its kernels. */
export function only(commands: readonly Command[], kernel: string): Command[] {
  const found = commands.filter((command) => command.kind === "dispatch" && command.label === kernel);
  if (found.length === 0) throw new Error(`internal: no dispatch of ${kernel}`);
  return found;
}

export function rows(gpu: Gpu, count: number): RowCount {
  const counted = new RowCount(gpu, "bench rows", count);
  counted.set(count);
  return counted;
}

/** Numbers between −0.5 and 0.5 without a pattern that a cache or a predictor could like. */
export function numbers(length: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(length);
  let state = 1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    values[i] = (state >>> 8) / 2 ** 24 - 0.5;
  }
  return values;
}

export function matrix(gpu: Gpu, rowCount: number, cols: number): Matrix {
  const made = createMatrix(gpu, "bench matrix", rowCount, cols);
  writeMatrix(gpu, made, numbers(rowCount * cols));
  return made;
}

/** A frozen weight in bf16. */
export function weight(gpu: Gpu, rowCount: number, cols: number): Weight {
  const made = createWeight(gpu, "bench weight", "bf16", rowCount, cols);
  const bytes = new Uint8Array(encodeFloats("BF16", numbers(rowCount * cols)));
  if (padded(cols) !== cols) throw new Error(`internal: ${cols} columns need padding`);
  for (const { range, firstRow, rows: partRows } of made.parts) {
    gpu.write(range.buffer, range.offsetBytes, bytes.subarray(firstRow * cols * 2, (firstRow + partRows) * cols * 2));
  }
  return made;
}

/** A buffer of these words, or of so many zeros. */
export function words(gpu: Gpu, values: Uint32Array<ArrayBuffer> | Float32Array<ArrayBuffer> | number): BufferRange {
  const range = wholeBuffer(gpu.buffer("bench words", typeof values === "number" ? values * 4 : values.byteLength));
  if (typeof values !== "number") gpu.write(range.buffer, 0, values);
  return range;
}
