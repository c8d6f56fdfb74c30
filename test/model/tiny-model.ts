import { type PackedBatch, type PairTokens, pack, targetSlots } from "../../src/data/pack.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { type BaseWeights, createBaseWeights, type ProjectionWeight } from "../../src/model/base-weights.ts";
import {
  createLoraBuffers,
  createLoraGradients,
  eachFactor,
  type LayerFactors,
  type LoraBuffers,
  readMatrices,
  writeMatrix,
} from "../../src/model/lora.ts";
import { type HeadResults, PairModel } from "../../src/model/pair-model.ts";
import type { PairPlanOptions } from "../../src/model/pair-plans.ts";
import type { Weight, WeightFormat } from "../../src/ops/matrix.ts";
import type { LlamaConfig } from "../../src/weights/llama-config.ts";
import {
  EMBEDDING_NAME,
  FINAL_NORM_NAME,
  HEAD_NAME,
  inputNormName,
  llamaTensors,
  postAttentionNormName,
  projectionName,
} from "../../src/weights/llama-tensors.ts";
import { type LoraSettings, loraScale } from "../../src/weights/peft-config.ts";
import { PROJECTIONS, type Projection, projectionSize } from "../../src/weights/projections.ts";
import { writeWeight } from "../kernels/harness.ts";
import { roundedToBf16, seededNumbers } from "../numbers.ts";
import type { ReferenceAdapter, ReferenceFactors, ReferenceModel } from "../reference/llama.ts";

/** Odd in every size: multiples of neither 4 nor 8, heads · headDim not the hidden size. */
export const ODD_CONFIG: LlamaConfig = {
  vocabSize: 401,
  hiddenSize: 36,
  intermediateSize: 50,
  layers: 2,
  heads: 3,
  keyValueHeads: 3,
  headDim: 10,
  rmsNormEps: 1e-6,
  tieWordEmbeddings: true,
  maxPositionEmbeddings: 64,
  rope: { theta: 10_000, scaling: null },
  bosTokenId: null,
  eosTokenIds: [],
  padTokenId: null,
  dtype: null,
};

export type FormatOf = (tensorName: string) => WeightFormat;

/** The numbers of a random model, in f32: the same for the GPU and the reference. */
export interface TinyModel {
  readonly config: LlamaConfig;
  readonly formatOf: FormatOf;
  readonly tensors: ReadonlyMap<string, Float32Array>;
  readonly reference: ReferenceModel;
}

export function tinyModel(config: LlamaConfig, formatOf: FormatOf, seed = 1): TinyModel {
  const random = seededNumbers(seed);
  const tensors = new Map<string, Float32Array>();
  for (const { name, shape } of llamaTensors(config)) {
    const length = shape.reduce((product, size) => product * size, 1);
    // Wide enough that attention and the softmax are not flat, with norms away from 1.
    const isNorm = shape.length === 1;
    const values = isNorm ? random.normals(length, 0.25).map((value) => 1 + value) : random.normals(length, 0.2);
    tensors.set(name, formatOf(name) === "bf16" ? roundedToBf16(values) : values);
  }
  const reference = referenceModel(config, tensors);
  return { config, formatOf, tensors, reference };
}

/** A model for the float64 Llama, from its tensors by name. */
export function referenceModel(config: LlamaConfig, tensors: ReadonlyMap<string, Float32Array>): ReferenceModel {
  const tensor = (name: string) => tensors.get(name)!;
  const layers = Array.from({ length: config.layers }, (_, layer) => ({
    inputNorm: tensor(inputNormName(layer)),
    postAttentionNorm: tensor(postAttentionNormName(layer)),
    projections: Object.fromEntries(
      PROJECTIONS.map((projection) => [projection, tensor(projectionName(layer, projection))]),
    ) as Record<Projection, Float32Array>,
  }));
  return {
    config,
    embedding: tensor(EMBEDDING_NAME),
    layers,
    finalNorm: tensor(FINAL_NORM_NAME),
    head: tensor(config.tieWordEmbeddings ? EMBEDDING_NAME : HEAD_NAME),
  };
}

/** An adapter with random A and B: trained for a while, so that B is not zero. */
export function tinyAdapter(config: LlamaConfig, settings: LoraSettings, seed = 2): ReferenceAdapter {
  const random = seededNumbers(seed);
  const { r, targetModules } = settings;
  const layers = Array.from({ length: config.layers }, () =>
    Object.fromEntries(
      targetModules.map((projection): [Projection, ReferenceFactors] => {
        const { inFeatures, outFeatures } = projectionSize(config, projection);
        return [projection, { a: random.normals(r * inFeatures, 0.2), b: random.normals(outFeatures * r, 0.1) }];
      }),
    ),
  );
  return { r, scale: loraScale(settings), layers };
}

/** B = 0, as an adapter starts. */
export function withZeroB(adapter: ReferenceAdapter): ReferenceAdapter {
  const layers = adapter.layers.map((factors) =>
    Object.fromEntries(
      Object.entries(factors).map(([projection, { a, b }]) => [projection, { a, b: new Float32Array(b.length) }]),
    ),
  );
  return { ...adapter, layers };
}

/** A model on the GPU, with what belongs to it. */
export interface UploadedModel {
  readonly model: PairModel;
  readonly weights: BaseWeights;
  readonly adapter: LoraBuffers;
  readonly gradients: readonly LayerFactors[];
}

export const MAX_TOKENS = 64;

export function uploadBase(gpu: Gpu, { config, formatOf, tensors }: TinyModel): BaseWeights {
  const weights = createBaseWeights(gpu, config, formatOf);
  for (const [name, target] of weights.tensors) {
    const values = tensors.get(name)!;
    if (target.kind === "weight") writeWeight(gpu, target.weight, values);
    if (target.kind === "vector") gpu.write(target.range.buffer, target.range.offsetBytes, Float32Array.from(values));
  }
  return weights;
}

/** A projection's weight of a model that has none in 4 bits. */
export function unpacked(weight: ProjectionWeight): Weight {
  if ("nf4" in weight) throw new Error("a weight in 4 bits");
  return weight;
}

export async function uploadModel(
  gpu: Gpu,
  weights: BaseWeights,
  settings: LoraSettings,
  values: ReferenceAdapter,
  options: Partial<PairPlanOptions> = {},
): Promise<UploadedModel> {
  const adapter = createLoraBuffers(gpu, weights.config, settings);
  for (const { layer, projection, factor, matrix } of eachFactor(adapter.layers)) {
    writeMatrix(gpu, matrix, Float32Array.from(values.layers[layer]![projection]![factor]));
  }
  const gradients = createLoraGradients(gpu, weights.config, settings);
  const { maxPositionEmbeddings: maxPositions } = weights.config;
  const model = new PairModel({ gpu, weights, adapter, gradients, maxTokens: MAX_TOKENS, maxPositions, ...options });
  await gpu.pipelines.ready();
  return { model, weights, adapter, gradients };
}

/** Random pairs of these lengths: prompt, chosen, rejected. */
export function randomPairs(lengths: readonly (readonly [number, number, number])[], vocabSize: number): PairTokens[] {
  const random = seededNumbers(3);
  const tokens = (length: number) => Array.from({ length }, () => random.integer(0, vocabSize - 1));
  return lengths.map(([prompt, chosen, rejected]) => ({
    promptIds: tokens(prompt),
    chosenIds: tokens(chosen),
    rejectedIds: tokens(rejected),
  }));
}

/** A prompt of one token, answers of one token on either side and on both, and longer ones: 59 rows. */
export const PAIR_LENGTHS = [
  [1, 1, 1],
  [5, 3, 7],
  [9, 1, 4],
  [1, 6, 1],
  [12, 11, 9],
] as const;

export function packAll(pairs: readonly PairTokens[]): PackedBatch {
  return pack(pairs, [...pairs.keys()]);
}

/** The slots of a batch's targets: of every pair its chosen tokens, then its rejected ones. */
export function slotsOf(batch: PackedBatch): number[] {
  return batch.pairs.flatMap((pair) => [...targetSlots(pair, "chosen"), ...targetSlots(pair, "rejected")]);
}

/** log p of every target in the order of `slotsOf`, in float64 from what the head found. */
export function logpsOf(batch: PackedBatch, head: HeadResults): Float64Array {
  return Float64Array.from(slotsOf(batch), (slot) => {
    const row = slot >> 1;
    return head.targetLogits[slot]! - head.state[4 * row]! - Math.log(head.state[4 * row + 1]!);
  });
}

/** Trains one batch: `coefficients` are d loss / d log p of every target, in the order of `slotsOf`. */
export async function trainOn(
  { model }: UploadedModel,
  batch: PackedBatch,
  coefficients: ArrayLike<number>,
): Promise<HeadResults> {
  let found: HeadResults | undefined;
  await model.train(batch, (head) => {
    found = head;
    const laidOut = new Float32Array(batch.targets.length);
    for (const [i, slot] of slotsOf(batch).entries()) laidOut[slot] = coefficients[i]!;
    return laidOut;
  });
  return found!;
}

/** The summed gradient of every factor. */
export async function gradientsOf(
  gpu: Gpu,
  { gradients }: UploadedModel,
): Promise<{ name: string; values: Float32Array<ArrayBuffer> }[]> {
  const named = [...eachFactor(gradients)];
  const values = await readMatrices(
    gpu,
    named.map(({ matrix }) => matrix),
  );
  return named.map(({ layer, projection, factor }, i) => ({
    name: `layer ${layer} ${projection} ${factor}`,
    values: values[i]!,
  }));
}

/** Sets the summed gradients to zero. */
export function clearGradients(gpu: Gpu, { gradients }: UploadedModel): void {
  for (const { matrix } of eachFactor(gradients)) {
    writeMatrix(gpu, matrix, new Float32Array(matrix.rows * matrix.cols));
  }
}
