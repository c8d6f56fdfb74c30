import { type PackedBatch, type PairTokens, pack, visibleScores } from "../../src/data/pack.ts";
import type { LlamaConfig } from "../../src/weights/llama-config.ts";

/** The sizes of a model and a packed batch, for which kernels are measured. */
export interface LayerShape {
  readonly name: string;
  readonly hidden: number;
  readonly intermediate: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headDim: number;
  readonly vocab: number;
  readonly rank: number;
  readonly batch: PackedBatch;
}

/** A model with a batch of real pairs. */
export function modelShape(name: string, config: LlamaConfig, rank: number, pairs: readonly PairTokens[]): LayerShape {
  const { hiddenSize, intermediateSize, heads, keyValueHeads, headDim, vocabSize } = config;
  const sizes = { hidden: hiddenSize, intermediate: intermediateSize, heads, keyValueHeads, headDim, vocab: vocabSize };
  return { name, ...sizes, rank, batch: pack(pairs, [...pairs.keys()]) };
}

/** A layer of 1024, as models of several hundred million parameters have, on two pairs of 256 packed tokens. */
export function wideShape(): LayerShape {
  const pair: PairTokens = {
    promptIds: new Array(64).fill(1),
    chosenIds: new Array(97).fill(2),
    rejectedIds: new Array(97).fill(3),
  };
  return {
    name: "1024 wide",
    hidden: 1024,
    intermediate: 2816,
    heads: 16,
    keyValueHeads: 4,
    headDim: 64,
    vocab: 4096, // a thirtieth of a usual one: what the head does is per row and token
    rank: 32,
    batch: pack([pair, pair], [0, 1]),
  };
}

/** T, the packed tokens of the batch. */
export function tokensOf({ batch }: LayerShape): number {
  return batch.tokens.length;
}

/** R, the rows that predict a token. */
export function headRowsOf({ batch }: LayerShape): number {
  return batch.headRows.length;
}

/** Query and key pairs of the batch, of one head: what attention computes scores of. */
export function scoresOf({ batch }: LayerShape): number {
  return visibleScores(batch);
}
