import type { LlamaConfig } from "../weights/llama-config.ts";

const LLAMA_3: Omit<
  LlamaConfig,
  "hiddenSize" | "intermediateSize" | "layers" | "heads" | "headDim" | "tieWordEmbeddings"
> = {
  vocabSize: 128_256,
  keyValueHeads: 8,
  rmsNormEps: 1e-5,
  maxPositionEmbeddings: 131_072,
  rope: { theta: 500_000, scaling: null }, // Scaling changes the angles alone, which a plan does not ask for.
  bosTokenId: null,
  eosTokenIds: [],
  padTokenId: null,
  dtype: "bfloat16",
};

/** Shapes of published models, for plans without one at hand: what `--shape` takes. */
export const MODEL_SHAPES: Readonly<Record<string, LlamaConfig>> = {
  // SmolLM2-135M.
  "135m": {
    ...LLAMA_3,
    vocabSize: 49_152,
    hiddenSize: 576,
    intermediateSize: 1536,
    layers: 30,
    heads: 9,
    keyValueHeads: 3,
    headDim: 64,
    tieWordEmbeddings: true,
    maxPositionEmbeddings: 8192,
  },
  // Llama-3.2-1B and 3B, Llama-3.1-8B and 70B.
  "1b": {
    ...LLAMA_3,
    hiddenSize: 2048,
    intermediateSize: 8192,
    layers: 16,
    heads: 32,
    headDim: 64,
    tieWordEmbeddings: true,
  },
  "3b": {
    ...LLAMA_3,
    hiddenSize: 3072,
    intermediateSize: 8192,
    layers: 28,
    heads: 24,
    headDim: 128,
    tieWordEmbeddings: true,
  },
  "8b": {
    ...LLAMA_3,
    hiddenSize: 4096,
    intermediateSize: 14_336,
    layers: 32,
    heads: 32,
    headDim: 128,
    tieWordEmbeddings: false,
  },
  "70b": {
    ...LLAMA_3,
    hiddenSize: 8192,
    intermediateSize: 28_672,
    layers: 80,
    heads: 64,
    headDim: 128,
    tieWordEmbeddings: false,
  },
};
