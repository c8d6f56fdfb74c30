import { type BufferRange, wholeBuffer } from "../gpu/buffer.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { createWeight, padded, type Weight, type WeightFormat, weightIn, weightRowBytes } from "../ops/matrix.ts";
import { createNf4Weight, type Nf4Weight } from "../ops/nf4.ts";
import { dynamicMap } from "../weights/dynamic-map.ts";
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
  readonly projections: Readonly<Record<Projection, ProjectionWeight>>;
}

/** The weight of a linear layer: ready for products, or in 4 bits. */
export type ProjectionWeight = Weight | PackedWeight;

/** A weight in 4 bits, and where it is unpacked before a product: in a buffer that all of them use in turn. */
export interface PackedWeight {
  readonly nf4: Nf4Weight;
  readonly unpacked: Weight;
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
  | { readonly kind: "nf4"; readonly weight: Nf4Weight }
  | { readonly kind: "vector"; readonly range: BufferRange; readonly length: number };

/** Where a tensor lies: all that its file decides. */
export function tensorRanges(target: TensorTarget): BufferRange[] {
  if (target.kind === "vector") return [target.range];
  if (target.kind === "weight") return target.weight.parts.map(({ range }) => range);
  const { codes, absmaxCodes, absmax2, offset } = target.weight;
  return [codes, absmaxCodes, absmax2, offset];
}

/**
 * Zero-filled buffers for a model.
 *
 * @param formatOf how the elements of a tensor of the folder are to be kept, or, of a projection in 4 bits, unpacked
 * @param in4Bit whether the projections are kept in 4 bits, as QLoRA does; embedding, head and norms are not
 */
export function createBaseWeights(
  gpu: Gpu,
  config: LlamaConfig,
  formatOf: (tensorName: string) => WeightFormat,
  in4Bit = false,
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
  const projection = in4Bit ? packedMatrices(gpu, config, formatOf, tensors) : matrix;
  const { hiddenSize, vocabSize } = config;
  const embedding = matrix(EMBEDDING_NAME, vocabSize, hiddenSize);
  const layers = Array.from({ length: config.layers }, (_, layer): LayerWeights => {
    const projections = {} as Record<Projection, ProjectionWeight>;
    for (const name of PROJECTIONS) {
      const { inFeatures, outFeatures } = projectionSize(config, name);
      projections[name] = projection(projectionName(layer, name), outFeatures, inFeatures);
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

/** What makes the projections' matrices in 4 bits, all unpacked into one buffer. */
function packedMatrices(
  gpu: Gpu,
  config: LlamaConfig,
  formatOf: (tensorName: string) => WeightFormat,
  tensors: Map<string, TensorTarget>,
): (name: string, rows: number, cols: number) => PackedWeight {
  const values = dynamicMap(true);
  const map = wholeBuffer(gpu.buffer("dynamic map", values.byteLength));
  gpu.write(map.buffer, 0, values);
  const largestBytes = PROJECTIONS.reduce((largest, projection) => {
    const { inFeatures, outFeatures } = projectionSize(config, projection);
    const format = formatOf(projectionName(0, projection));
    return Math.max(largest, padded(outFeatures) * weightRowBytes(format, inFeatures));
  }, 0);
  const buffer = gpu.buffer("projection at hand, unpacked", largestBytes);
  return (name, rows, cols) => {
    const nf4 = createNf4Weight(gpu, name, rows, cols, map);
    tensors.set(name, { kind: "nf4", weight: nf4 });
    return { nf4, unpacked: weightIn(gpu, buffer, formatOf(name), rows, cols) };
  };
}
