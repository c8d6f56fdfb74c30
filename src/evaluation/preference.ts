import type { Config } from "../config/schema.ts";
import { placeOf } from "../data/problems.ts";
import type { TokenizedPair } from "../data/tokenize.ts";
import type { Gpu } from "../gpu/gpu.ts";
import type { BaseWeights } from "../model/base-weights.ts";
import { type LoraBuffers, uploadAdapter } from "../model/lora.ts";
import { PairModel } from "../model/pair-model.ts";
import type { Terminal } from "../terminal.ts";
import { evaluate } from "../train/evaluate.ts";
import type { Metrics } from "../train/metrics.ts";
import type { ReferenceLogps } from "../train/objective.ts";
import { longestSequence } from "../train/prepare-run.ts";
import { computeReference } from "../train/reference.ts";
import { objectiveOf } from "../train/settings.ts";
import { tokenBounds } from "../train/token-budget.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";
import type { LoraAdapter } from "../weights/peft-adapter.ts";

export interface PreferenceOptions {
  readonly gpu: Gpu;
  readonly config: Config;
  /** Held-out ones. */
  readonly pairs: readonly TokenizedPair[];
  readonly terminal: Terminal;
  readonly signal: AbortSignal;
}

/** A model on the GPU whose log-probabilities are asked for. */
export interface ScoredModel {
  readonly weights: BaseWeights;
  /** Null for the weights alone. */
  readonly adapter: LoraBuffers | null;
}

/** The log-probabilities of the base alone. */
export async function referenceOf(weights: BaseWeights, options: PreferenceOptions): Promise<ReferenceLogps[]> {
  const { pairs, terminal, signal } = options;
  if (pairs.length === 0) return [];
  return scoring({ weights, adapter: null }, options, (model) =>
    computeReference(model, pairs, (done) => {
      signal.throwIfAborted();
      terminal.status(`held-out pairs by the base: ${done} of ${pairs.length}`);
    }),
  );
}

/** Loss and metrics of a model on the pairs, with the names and averages that they have in training; null without pairs. */
export async function preferenceOf(
  scored: ScoredModel,
  references: readonly ReferenceLogps[],
  options: PreferenceOptions,
): Promise<Metrics | null> {
  const { config, pairs, terminal, signal } = options;
  if (pairs.length === 0) return null;
  const judged = pairs.map(({ promptIds, chosenIds, rejectedIds, source }, i) => ({
    promptIds,
    chosenIds,
    rejectedIds,
    reference: references[i]!,
    place: placeOf(source),
  }));
  terminal.status(`held-out pairs by the trained model: ${pairs.length}`);
  const settings = {
    objective: objectiveOf(config),
    perDeviceEvalBatchSize: config.per_device_eval_batch_size,
    // Policy and reference of the exact divergence are one model with and without its adapter.
    evalKl: config.eval_kl && scored.adapter !== null,
  };
  return scoring(scored, options, (model) => evaluate(model, judged, settings, signal));
}

/** Rows of a GPU batch that make good use of the weights that are read. */
const ENOUGH_TOKENS = 2048;

async function scoring<T>(
  { weights, adapter }: ScoredModel,
  { gpu, config, pairs }: PreferenceOptions,
  work: (model: PairModel) => Promise<T>,
): Promise<T> {
  const bounds = tokenBounds(
    pairs,
    [],
    { ...config, max_tokens_per_batch: undefined },
    objectiveOf(config),
    weights.config,
    gpu,
  );
  const { value: model, buffers } = gpu.collect(
    () =>
      new PairModel({
        gpu,
        weights,
        adapter: adapter ?? uploadAdapter(gpu, weights.config, zeroAdapter(weights.config)),
        gradients: null,
        maxTokens: Math.min(bounds.limit, Math.max(bounds.needed, ENOUGH_TOKENS)),
        maxPositions: longestSequence({ train: [], evaluation: pairs }),
        divergence: config.eval_kl && adapter !== null,
        stored: "layer inputs",
      }),
  );
  try {
    await gpu.pipelines.ready();
    return await work(model);
  } finally {
    for (const buffer of buffers) gpu.release(buffer);
  }
}

/** A pair model has an adapter: this one adds nothing. */
function zeroAdapter(config: LlamaConfig): LoraAdapter {
  const { heads, headDim, hiddenSize } = config;
  const layer = { q_proj: { a: new Float32Array(hiddenSize), b: new Float32Array(heads * headDim) } };
  return {
    r: 1,
    loraAlpha: 1,
    useRslora: false,
    targetModules: ["q_proj"],
    layers: Array.from({ length: config.layers }, () => layer),
  };
}
