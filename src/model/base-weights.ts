import { type BufferRange, wholeBuffer } from "../gpu/buffer.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { createWeight, padded, type Weight, type WeightFormat } from "../ops/matrix.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";
import {
  EMBEDDING_NAME,
  FINAL_NORM_NAME,
  HEAD_NAME,
  inputNormName,
  postAttentionNormName,
  projectionName,
} from "../weights/llama-tensors.ts";
import { PROJECTIONS, type Projection, projectionSize } from "../weights/projections.ts";

export interface LayerWeights {
  readonly inputNorm: BufferRange;
  readonly postAttentionNorm: BufferRange;
  readonly projections: Readonly<Record<Projection, Weight>>;
}

/** The frozen base on the GPU. Norms are f32, matrices in the format that each was made with. */
export interface BaseWeights {
  readonly config: LlamaConfig;
  readonly embedding: Weight;
  readonly layers: readonly LayerWeights[];
  readonly finalNorm: BufferRange;
  /** The embedding itself where the model ties them. */
  readonly head: Weight;
  /** Where each tensor of the model folder goes, by its name in the folder. */
  readonly tensors: ReadonlyMap<string, TensorTarget>;
}

export type TensorTarget =
  | { readonly kind: "weight"; readonly weight: Weight }
  | { readonly kind: "vector"; readonly range: BufferRange; readonly length: number };

/** Zero-filled buffers for a model. `formatOf` says how the elements of a tensor of the folder are to be kept. */
export function createBaseWeights(
  gpu: Gpu,
  config: LlamaConfig,
  formatOf: (tensorName: string) => WeightFormat,
): BaseWeights {
  const tensors = new Map<string, TensorTarget>();
  const matrix = (name: string, rows: number, cols: number): Weight => {
    const weight = createWeight(gpu, name, formatOf(name), rows, cols);
    tensors.set(name, { kind: "weight", weight });
    return weight;
  };
  const vector = (name: string, length: number): BufferRange => {
    const range = wholeBuffer(gpu.buffer(name, padded(length) * 4));
    tensors.set(name, { kind: "vector", range, length });
    return range;
  };
  const { hiddenSize, vocabSize } = config;
  const embedding = matrix(EMBEDDING_NAME, vocabSize, hiddenSize);
  const layers = Array.from({ length: config.layers }, (_, layer): LayerWeights => {
    const projections = {} as Record<Projection, Weight>;
    for (const projection of PROJECTIONS) {
      const { inFeatures, outFeatures } = projectionSize(config, projection);
      projections[projection] = matrix(projectionName(layer, projection), outFeatures, inFeatures);
    }
    return {
      inputNorm: vector(inputNormName(layer), hiddenSize),
      postAttentionNorm: vector(postAttentionNormName(layer), hiddenSize),
      projections,
    };
  });
  const finalNorm = vector(FINAL_NORM_NAME, hiddenSize);
  const head = config.tieWordEmbeddings ? embedding : matrix(HEAD_NAME, vocabSize, hiddenSize);
  return { config, embedding, layers, finalNorm, head, tensors };
}
