import { type PackedBatch, visibleScores } from "../data/pack.ts";
import { type BufferRange, wholeBuffer } from "../gpu/buffer.ts";
import { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";

/** A packed batch on the GPU: what `PackedBatch` holds, and the loss's answer to it. */
export interface BatchBuffers {
  /** T and R of the batch at hand. */
  readonly tokenCount: RowCount;
  readonly headCount: RowCount;
  /** `visibleScores` of the batch at hand. */
  scores: number;
  readonly tokens: BufferRange;
  readonly positions: BufferRange;
  readonly visible: BufferRange;
  readonly queryEnd: BufferRange;
  readonly headRows: BufferRange;
  readonly targets: BufferRange;
  /** (R, 2) f32: d loss / d log-probability of each target. */
  readonly coefficients: BufferRange;
}

export function createBatchBuffers(gpu: Gpu, maxTokens: number): BatchBuffers {
  const words = (label: string, perToken: number) => wholeBuffer(gpu.buffer(label, maxTokens * perToken * 4));
  return {
    tokenCount: new RowCount(gpu, "tokens", maxTokens),
    headCount: new RowCount(gpu, "head rows", maxTokens),
    scores: 0,
    tokens: words("tokens", 1),
    positions: words("positions", 1),
    visible: words("visible rows", 4),
    queryEnd: words("query end", 1),
    headRows: words("head rows", 1),
    targets: words("targets", 2),
    coefficients: words("coefficients", 2),
  };
}

/** Puts a batch where the kernels look for it. Its tokens and positions must lie below the tables' sizes. */
export function uploadBatch(
  gpu: Gpu,
  buffers: BatchBuffers,
  batch: PackedBatch,
  limits: { vocabSize: number; maxPositions: number },
): void {
  // Past the end of a table kernels would read something else, and nobody would know.
  requireBelow("token", batch.tokens, limits.vocabSize);
  requireBelow("position", batch.positions, limits.maxPositions);
  buffers.tokenCount.set(batch.tokens.length);
  buffers.headCount.set(batch.headRows.length);
  buffers.scores = visibleScores(batch);
  for (const name of ["tokens", "positions", "visible", "queryEnd", "headRows", "targets"] as const) {
    gpu.write(buffers[name].buffer, 0, batch[name]);
  }
}

function requireBelow(what: string, values: Uint32Array, limit: number): void {
  const found = values.find((value) => value >= limit);
  if (found !== undefined) throw new Error(`internal: ${what} ${found} in a model of ${limit} ${what}s`);
}
