import type { PackedBatch } from "../data/pack.ts";
import { mergeBufferBytes } from "../export/row-merger.ts";
import { totalBytes } from "../gpu/buffer.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { createPlanningGpu, type PlannedAdapter } from "../gpu/planning-gpu.ts";
import { stagingBytes } from "../gpu/readback.ts";
import type { Stored } from "../model/activations.ts";
import { type BaseWeights, createBaseWeights } from "../model/base-weights.ts";
import { Generator } from "../model/generator.ts";
import { createLoraBuffers, createLoraGradients, eachFactor, type LoraBuffers } from "../model/lora.ts";
import { PairModel } from "../model/pair-model.ts";
import { TensorUploader } from "../model/upload.ts";
import type { WeightFormat } from "../ops/matrix.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";
import type { LoraSettings } from "../weights/peft-config.ts";
import { largestReadBytes, optimizerTensors } from "./checkpoint/optimizer-state.ts";
import { createOptimizer, type OptimizerSettings } from "./optimizer.ts";

/** All that decides what a run allocates and computes. */
export interface RunShape {
  readonly adapter: PlannedAdapter;
  readonly model: LlamaConfig;
  readonly formatOf: (tensorName: string) => WeightFormat;
  /** Whether the projections are kept in 4 bits. */
  readonly in4Bit: boolean;
  readonly lora: LoraSettings;
  readonly optimizer: OptimizerSettings;
  /** Positions of the longest sequence. */
  readonly maxPositions: number;
  readonly divergence: boolean;
  /** Positions of the sample that is answered before and after training; null for none. */
  readonly samplePositions: number | null;
  /** Whether a merged model is written at the end. */
  readonly merges: boolean;
}

/** What the planner may choose. */
export interface BatchChoice {
  /** Packed rows in a GPU batch. */
  readonly maxTokens: number;
  readonly stored: Stored;
}

/** Bytes on the GPU, by what they are for. */
export interface MemoryUse {
  readonly weights: number;
  readonly lora: number;
  readonly optimizer: number;
  readonly activations: number;
  readonly workspace: number;
  readonly head: number;
  /** Of what is there only for a while, beside the others or before them, what adds most: loading, sample, checkpoint or export. */
  readonly temporary: number;
}

export interface Simulation {
  readonly memory: MemoryUse;
  /** The sum of `memory`. */
  readonly peakBytes: number;
  /** Floating-point operations of forward and backward over a batch, with what is computed again. */
  readonly trainFlops: (batch: PackedBatch) => number;
  /** Cases of `Gpu.decisions` that the run will ask for. */
  readonly decisions: readonly string[];
}

/** What a row of the head brings back: 16 bytes of state, 4 of the best token, 8 of targets; or the 32 of a divergence. */
const RESULT_BYTES_PER_ROW = { logps: 28, divergence: 32 };
/** Results that are on their way to the host at once: of two batches, or of a batch and an update. */
const RESULTS_AT_ONCE = 2;

/**
 * Makes everything that a run makes on a GPU that is none, and counts: what is planned cannot drift from what is done.
 */
export function simulate(run: RunShape, { maxTokens, stored }: BatchChoice): Simulation {
  const gpu = createPlanningGpu(run.adapter);
  const { value: weights, buffers: weightBuffers } = gpu.collect(() =>
    createBaseWeights(gpu, run.model, run.formatOf, run.in4Bit),
  );
  const { value: lora, buffers: loraBuffers } = gpu.collect(() => ({
    adapter: createLoraBuffers(gpu, run.model, run.lora),
    gradients: createLoraGradients(gpu, run.model, run.lora),
  }));
  const { adapter, gradients } = lora;
  const { maxPositions, divergence } = run;
  const model = new PairModel({ gpu, weights, adapter, gradients, maxTokens, maxPositions, divergence, stored });
  const { value: optimizer, buffers: optimizerBuffers } = gpu.collect(() =>
    createOptimizer(gpu, adapter.layers, gradients, run.optimizer),
  );
  const decisions = gpu.decisions.open;
  const rowBytes = RESULT_BYTES_PER_ROW[divergence ? "divergence" : "logps"];
  const lasting = {
    weights: totalBytes(weightBuffers),
    lora: totalBytes(loraBuffers),
    optimizer: totalBytes(optimizerBuffers),
    ...model.memory,
    workspace: model.memory.workspace + RESULTS_AT_ONCE * stagingBytes(maxTokens * rowBytes),
  };
  const besideWeights = sum(lasting) - lasting.weights;
  const temporary = Math.max(
    loadingBytes(gpu, weights) - besideWeights, // Before the others are made.
    sampleBytes(gpu, weights, adapter, run.samplePositions),
    exportBytes(gpu, run, adapter),
    stagingBytes(largestReadBytes(optimizerTensors(adapter.layers, optimizer))), // For a checkpoint.
  );
  const memory = { ...lasting, temporary };
  return { memory, peakBytes: sum(memory), trainFlops: (batch) => model.flops(batch, "train"), decisions };
}

function sum(bytes: Readonly<Record<string, number>>): number {
  return Object.values(bytes).reduce((total, size) => total + size, 0);
}

/** What loading takes beside the weights. */
function loadingBytes(gpu: Gpu, { tensors }: BaseWeights): number {
  const { value: uploader, buffers } = gpu.collect(() => new TensorUploader(gpu, tensors));
  uploader.destroy();
  return totalBytes(buffers) + stagingBytes(tensors.size * 8);
}

function sampleBytes(gpu: Gpu, weights: BaseWeights, adapter: LoraBuffers, maxPositions: number | null): number {
  if (maxPositions === null) return 0;
  const generator = new Generator({ gpu, weights, adapter, maxPositions });
  generator.destroy();
  return generator.sizeBytes + stagingBytes(weights.config.vocabSize * 4);
}

/** What it takes to read the adapter, layer by layer, and afterwards to merge it. */
function exportBytes(gpu: Gpu, { lora, model, merges }: RunShape, { layers }: LoraBuffers): number {
  const layerBytes = [...eachFactor(layers.slice(0, 1))].reduce(
    (bytes, { matrix }) => bytes + matrix.range.sizeBytes,
    0,
  );
  return Math.max(stagingBytes(layerBytes), merges ? mergeBufferBytes(gpu, lora, model) : 0);
}
