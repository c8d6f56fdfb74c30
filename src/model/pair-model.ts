import { type PackedBatch, pairStarts } from "../data/pack.ts";
import { totalBytes } from "../gpu/buffer.ts";
import { type Command, record } from "../gpu/commands.ts";
import type { Gpu } from "../gpu/gpu.ts";
import type { ResultRange } from "../gpu/readback.ts";
import { divergenceOfRows } from "../ops/head.ts";
import { setRowTiles } from "../ops/row-tiles.ts";
import { type BatchBuffers, createBatchBuffers, uploadBatch } from "./batch-buffers.ts";
import { createPairPlans, type PairPlanOptions, type PairPlans, type Who } from "./pair-plans.ts";

/** What the head found for the R rows of a batch that predict a token. */
export interface HeadResults {
  /** (R, 4): largest logit m, Σ exp(l − m), Σ exp(l − m)(l − m), Σ l over the vocabulary. */
  readonly state: Float32Array;
  /** (R): the most likely token. */
  readonly best: Uint32Array;
  /** (R, 2): the logits of the chosen and the rejected answer's token. */
  readonly targetLogits: Float32Array;
}

/** Bytes of a model's buffers by what they are for. */
export interface PairMemory {
  /** Kept from the forward to the backward pass. */
  readonly activations: number;
  /** Rows of the head, and a chunk of logits. */
  readonly head: number;
  /** Used by one layer after the other. */
  readonly workspace: number;
}

/** Commands of a backward pass that are submitted by themselves, so that the GPU works while the rest is submitted. */
const FIRST_COMMANDS = 32;

/**
 * Llama over packed pairs: scores both answers of every pair in one pass, and returns gradients to the adapter.
 * Buffers, bind groups and the order of dispatches are fixed when it is made; each batch replays them.
 */
export class PairModel {
  readonly maxTokens: number;
  readonly vocabSize: number;
  readonly memory: PairMemory;
  readonly #maxPositions: number;
  readonly #gpu: Gpu;
  readonly #batch: BatchBuffers;
  readonly #plans: PairPlans;

  constructor(options: PairPlanOptions) {
    const { gpu, weights, maxTokens, maxPositions } = options;
    this.#gpu = gpu;
    this.maxTokens = maxTokens;
    this.vocabSize = weights.config.vocabSize;
    this.#maxPositions = maxPositions;
    const { value, buffers } = gpu.collect(() => {
      const batch = createBatchBuffers(gpu, maxTokens);
      return { batch, plans: createPairPlans(options, batch) };
    });
    this.#batch = value.batch;
    this.#plans = value.plans;
    const { activations, head } = this.#plans.memory;
    this.memory = { activations, head, workspace: totalBytes(buffers) - activations - head };
  }

  /** Log-probabilities of a batch without gradients. The next batch may be scored before they are there. */
  async score(batch: PackedBatch, who: Who): Promise<HeadResults> {
    this.#upload(batch);
    return this.#runHead("score", this.#plans.score[who]);
  }

  /**
   * Forward and backward of one batch through the adapted model: the gradients are added to those already summed.
   * `coefficientsOf` gets what the head found and returns d loss / d log-probability of every target, (R, 2), 0 where
   * there is none. The backward pass is encoded while the GPU works on the forward pass, so the GPU waits only for that.
   */
  async train(batch: PackedBatch, coefficientsOf: (head: HeadResults) => Float32Array<ArrayBuffer>): Promise<void> {
    const { train } = this.#plans;
    if (!train) throw new Error("internal: this model has no gradients");
    this.#upload(batch);
    const results = this.#runHead("forward", train.forward);
    results.catch(() => {}); // Awaited below, unless encoding throws first: never an unhandled rejection.
    const parts = [train.backward.slice(0, FIRST_COMMANDS), train.backward.slice(FIRST_COMMANDS)];
    const backward = parts.map((commands) => record(this.#gpu, "backward", commands));
    const coefficients = coefficientsOf(await results);
    this.#gpu.write(this.#batch.coefficients.buffer, 0, coefficients);
    for (const part of backward) this.#gpu.submit(part);
  }

  /** KL(π ‖ π_ref) over the whole vocabulary, in nats, at each of the R rows that predict a token. */
  async divergence(batch: PackedBatch): Promise<Float64Array> {
    const { divergence, divergenceState } = this.#plans;
    if (!divergence || !divergenceState) throw new Error("internal: this model was not made for divergences");
    this.#upload(batch);
    const rows = batch.headRows.length;
    const results = [{ ...divergenceState, sizeBytes: rows * 32, isRewritten: true }];
    const [words] = await this.#run("divergence", divergence, results);
    return divergenceOfRows(new Float32Array(words!));
  }

  /** Floating-point operations of `train` on a batch, or of `score`. Nothing is run. */
  flops(batch: PackedBatch, pass: "train" | Who): number {
    this.#upload(batch);
    const { train, score } = this.#plans;
    const commands = pass === "train" ? [...(train?.forward ?? []), ...(train?.backward ?? [])] : score[pass];
    return commands.reduce((sum, command) => {
      return sum + (command.kind === "dispatch" ? (command.work?.().flops ?? 0) : 0);
    }, 0);
  }

  #upload(batch: PackedBatch): void {
    uploadBatch(this.#gpu, this.#batch, batch, { vocabSize: this.vocabSize, maxPositions: this.#maxPositions });
    const { tensorAttention } = this.#plans;
    if (!tensorAttention) return;
    const starts = pairStarts(batch);
    for (const tiles of tensorAttention.rowTiles.values()) setRowTiles(this.#gpu, tiles, starts);
  }

  async #runHead(label: string, commands: readonly Command[]): Promise<HeadResults> {
    const rows = this.#batch.headCount.value;
    const { state, best, targetLogits } = this.#plans.head;
    const [stateWords, bestWords, targetWords] = await this.#run(label, commands, [
      { ...state, sizeBytes: rows * 16, isRewritten: true },
      { ...best, sizeBytes: rows * 4, isRewritten: true },
      { ...targetLogits, sizeBytes: rows * 8 }, // Nothing is written where a row predicts one token only.
    ]);
    return {
      state: new Float32Array(stateWords!),
      best: new Uint32Array(bestWords!),
      targetLogits: new Float32Array(targetWords!),
    };
  }

  async #run(label: string, commands: readonly Command[], results: readonly ResultRange[]): Promise<ArrayBuffer[]> {
    const readback = this.#gpu.readback(...results);
    this.#gpu.submit(record(this.#gpu, label, commands, readback));
    return readback.finish();
  }
}
