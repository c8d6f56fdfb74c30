import type { LlamaConfig } from "./llama-config.ts";
import { listNames, throwProblems } from "./problems.ts";
import { PROJECTIONS, type Projection, projectionModule, projectionSize } from "./projections.ts";
import { describeWrongDtypes, describeWrongShapes, type StoredTensor } from "./tensor-checks.ts";

/** A tensor that a Llama model must have. A linear layer's weight is (outFeatures, inFeatures), row-major. */
export interface LlamaTensor {
  readonly name: string;
  readonly shape: readonly number[];
}

export const EMBEDDING_NAME = "model.embed_tokens.weight";
export const FINAL_NORM_NAME = "model.norm.weight";
export const HEAD_NAME = "lm_head.weight";

export function inputNormName(layer: number): string {
  return `model.layers.${layer}.input_layernorm.weight`;
}

export function postAttentionNormName(layer: number): string {
  return `model.layers.${layer}.post_attention_layernorm.weight`;
}

export function projectionName(layer: number, projection: Projection): string {
  return `model.layers.${layer}.${projectionModule(projection)}.${projection}.weight`;
}

/** All tensors of a model, in the order in which a forward pass uses them. With tied embeddings there is no head. */
export function llamaTensors(config: LlamaConfig): LlamaTensor[] {
  const { hiddenSize, vocabSize } = config;
  const tensors: LlamaTensor[] = [{ name: EMBEDDING_NAME, shape: [vocabSize, hiddenSize] }];
  for (let layer = 0; layer < config.layers; layer++) {
    const projection = (name: Projection): LlamaTensor => {
      const { inFeatures, outFeatures } = projectionSize(config, name);
      return { name: projectionName(layer, name), shape: [outFeatures, inFeatures] };
    };
    const [attention, mlp] = [PROJECTIONS.slice(0, 4), PROJECTIONS.slice(4)];
    tensors.push(
      { name: inputNormName(layer), shape: [hiddenSize] },
      ...attention.map(projection),
      { name: postAttentionNormName(layer), shape: [hiddenSize] },
      ...mlp.map(projection),
    );
  }
  tensors.push({ name: FINAL_NORM_NAME, shape: [hiddenSize] });
  if (!config.tieWordEmbeddings) tensors.push({ name: HEAD_NAME, shape: [vocabSize, hiddenSize] });
  return tensors;
}

/** Rotary frequencies, which older transformers stored although they follow from the config. */
const ROTARY_FREQUENCIES = /^model\.(layers\.[0-9]+\.self_attn\.)?rotary_emb\.inv_freq$/;

/** Whether a stored tensor is known to be of no use to a model of this config. */
export function isIgnoredTensor(name: string, config: LlamaConfig): boolean {
  return ROTARY_FREQUENCIES.test(name) || (name === HEAD_NAME && config.tieWordEmbeddings);
}

/**
 * Checks that the stored tensors are exactly those of the config, in a dtype that can be read. Ignored tensors may be
 * there in any shape, but for a tied `lm_head.weight`. `place` is the model's folder.
 * Throws one InputError with a line for each kind of difference: missing, wrong shape, wrong dtype, biases, others.
 */
export function checkLlamaTensors(config: LlamaConfig, stored: ReadonlyMap<string, StoredTensor>, place: string): void {
  const required = new Map(llamaTensors(config).map((tensor) => [tensor.name, tensor.shape]));
  const missing = [...required.keys()].filter((name) => !stored.has(name));
  const extra = [...stored.keys()].filter((name) => !required.has(name) && !isIgnoredTensor(name, config));
  const biases = extra.filter((name) => name.endsWith(".bias"));
  const others = extra.filter((name) => !name.endsWith(".bias"));

  const expected = new Map(required);
  if (config.tieWordEmbeddings) expected.set(HEAD_NAME, [config.vocabSize, config.hiddenSize]);
  const wrongShapes = describeWrongShapes(expected, stored);
  const wrongDtypes = describeWrongDtypes(required.keys(), stored);

  const problems: string[] = [];
  if (missing.length > 0) problems.push(describeMissing(missing));
  if (biases.length > 0) problems.push(`must have no biases, which are not supported, found ${listNames(biases)}`);
  if (others.length > 0) {
    problems.push(`must hold no other tensors than those of config.json's Llama, found ${listNames(others)}`);
  }
  if (wrongShapes !== undefined) problems.push(`must have the shapes of config.json's Llama: ${wrongShapes}`);
  if (wrongDtypes !== undefined) {
    problems.push(
      `${wrongDtypes}; load the model with transformers, dtype=torch.bfloat16, and write it again with save_pretrained`,
    );
  }
  throwProblems(`${place}: the weights`, problems);
}

function describeMissing(missing: readonly string[]): string {
  const remedy =
    missing.length === 1 && missing[0] === HEAD_NAME
      ? ' (a model whose head is its embedding has "tie_word_embeddings": true in config.json)'
      : "";
  return `must hold every tensor of config.json's Llama, missing ${listNames(missing)}${remedy}`;
}
