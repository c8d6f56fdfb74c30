import type { PackedBatch } from "../data/pack.ts";
import type { BufferRange } from "../gpu/buffer.ts";
import { type Command, encode } from "../gpu/commands.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { divergenceOfRows } from "../ops/head.ts";
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

/**
 * Llama over packed pairs: scores both answers of every pair in one pass, and returns gradients to the adapter.
 * Buffers, bind groups and the order of dispatches are fixed when it is made; each batch replays them.
 */
export class PairModel {
  readonly maxTokens: number;
  readonly vocabSize: number;
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
    this.#batch = createBatchBuffers(gpu, maxTokens);
    this.#plans = createPairPlans(options, this.#batch);
  }

  /** Log-probabilities of a batch without gradients. */
  async score(batch: PackedBatch, who: Who): Promise<HeadResults> {
    this.#upload(batch);
    return this.#runHead(this.#plans.score[who]);
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
    const results = this.#runHead(train.forward);
    results.catch(() => {}); // Awaited below, unless encoding throws first: never an unhandled rejection.
    const encoder = this.#gpu.device.createCommandEncoder();
    encode(this.#gpu, encoder, train.backward);
    const backward = encoder.finish();
    const coefficients = coefficientsOf(await results);
    this.#gpu.write(this.#batch.coefficients.buffer, 0, coefficients);
    this.#gpu.device.queue.submit([backward]);
  }

  /** KL(π ‖ π_ref) over the whole vocabulary, in nats, at each of the R rows that predict a token. */
  async divergence(batch: PackedBatch): Promise<Float64Array> {
    const { divergence, divergenceState } = this.#plans;
    if (!divergence || !divergenceState) throw new Error("internal: this model was not made for divergences");
    this.#upload(batch);
    const rows = batch.headRows.length;
    const [words] = await this.#run(divergence, [{ ...divergenceState, sizeBytes: rows * 32 }]);
    return divergenceOfRows(new Float32Array(words!));
  }

  #upload(batch: PackedBatch): void {
    uploadBatch(this.#gpu, this.#batch, batch, { vocabSize: this.vocabSize, maxPositions: this.#maxPositions });
  }

  async #runHead(commands: readonly Command[]): Promise<HeadResults> {
    const rows = this.#batch.headCount.value;
    const { state, best, targetLogits } = this.#plans.head;
    const [stateWords, bestWords, targetWords] = await this.#run(commands, [
      { ...state, sizeBytes: rows * 16 },
      { ...best, sizeBytes: rows * 4 },
      { ...targetLogits, sizeBytes: rows * 8 },
    ]);
    return {
      state: new Float32Array(stateWords!),
      best: new Uint32Array(bestWords!),
      targetLogits: new Float32Array(targetWords!),
    };
  }

  async #run(commands: readonly Command[], results: readonly BufferRange[]): Promise<ArrayBuffer[]> {
    const readback = this.#gpu.readback(...results);
    const encoder = this.#gpu.device.createCommandEncoder();
    encode(this.#gpu, encoder, commands);
    readback.encode(encoder);
    this.#gpu.device.queue.submit([encoder.finish()]);
    return readback.finish();
  }
}
