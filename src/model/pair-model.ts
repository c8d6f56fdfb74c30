import type { PackedBatch } from "../data/pack.ts";
import { type BufferRange, wholeBuffer } from "../gpu/buffer.ts";
import { type Command, clear, encode } from "../gpu/commands.ts";
import { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { embedding, gatherRows, scatterRows } from "../ops/elementwise.ts";
import { headBackward, headForward } from "../ops/head.ts";
import { createMatrix, type Matrix, matrixBytes } from "../ops/matrix.ts";
import { rmsNormBackward, rmsNormForward } from "../ops/norm.ts";
import { loraScale } from "../weights/peft-config.ts";
import { ActivationAllocator, type BackwardScratch, type LayerActivations } from "./activations.ts";
import type { BaseWeights } from "./base-weights.ts";
import { type BackwardContext, type Layer, layerBackward, layerForward } from "./layer.ts";
import type { LayerFactors, LoraBuffers } from "./lora.ts";
import { ropeTable } from "./rope-table.ts";

export interface PairModelOptions {
  readonly gpu: Gpu;
  readonly weights: BaseWeights;
  readonly adapter: LoraBuffers;
  /** Sums of the adapter's gradients; null for a model that only scores. */
  readonly gradients: readonly LayerFactors[] | null;
  /** Packed rows that a batch may have. */
  readonly maxTokens: number;
  /** Positions that a sequence may have. */
  readonly maxPositions: number;
  /** Bytes for one chunk of logits, {@link LOGITS_BYTES} if not given. */
  readonly logitsBytes?: number;
}

/** Default size of the chunk of logits that exists at a time. */
const LOGITS_BYTES = 256 * 2 ** 20;

/** What the head found for the R rows of a batch that predict a token. */
export interface HeadResults {
  /** (R, 4): largest logit m, Σ exp(l − m), Σ exp(l − m)(l − m), Σ l over the vocabulary. */
  readonly state: Float32Array;
  /** (R): the most likely token. */
  readonly best: Uint32Array;
  /** (R, 2): the logits of the chosen and the rejected answer's token. */
  readonly targetLogits: Float32Array;
}

/** Whose log-probabilities: the adapted model's, or the frozen base's. */
export type Who = "policy" | "reference";

/**
 * Llama over packed pairs: scores both answers of every pair in one pass, and returns gradients to the adapter.
 * Buffers, bind groups and the order of dispatches are fixed when it is made; each batch replays them.
 */
export class PairModel {
  readonly maxTokens: number;
  readonly vocabSize: number;
  readonly #maxPositions: number;
  readonly #gpu: Gpu;
  readonly #tokens: RowCount;
  readonly #rows: RowCount;
  readonly #batch: BatchBuffers;
  readonly #state: BufferRange;
  readonly #best: BufferRange;
  readonly #targetLogits: BufferRange;
  readonly #scoreReference: readonly Command[];
  readonly #scorePolicy: readonly Command[];
  readonly #trainForward: readonly Command[] | null;
  readonly #trainBackward: readonly Command[] | null;

  constructor(options: PairModelOptions) {
    const { gpu, weights, adapter, gradients, maxTokens, maxPositions } = options;
    const { config } = weights;
    this.#gpu = gpu;
    this.maxTokens = maxTokens;
    this.vocabSize = config.vocabSize;
    this.#maxPositions = maxPositions;
    this.#tokens = new RowCount(gpu, "tokens", maxTokens);
    this.#rows = new RowCount(gpu, "head rows", maxTokens);
    this.#batch = createBatchBuffers(gpu, maxTokens);

    const table = ropeTable(config, maxPositions);
    const tableBuffer = gpu.buffer("rope table", table.byteLength);
    gpu.write(tableBuffer, 0, table);
    const context: BackwardContext = {
      gpu,
      config,
      count: this.#tokens,
      positions: this.#batch.positions,
      visible: this.#batch.visible,
      queryEnd: this.#batch.queryEnd,
      ropeTable: wholeBuffer(tableBuffer),
    };

    const allocate = new ActivationAllocator(gpu, config, maxTokens);
    const inputs = Array.from({ length: config.layers + 1 }, (_, layer) => allocate.hidden(`input of layer ${layer}`));
    const activations = weights.layers.map((_, layer) =>
      allocate.layer(`layer ${layer}`, inputs[layer]!, adapter.settings),
    );
    const scratch = allocate.forwardScratch();

    const head = createHeadBuffers(gpu, config.hiddenSize, config.vocabSize, maxTokens, options);
    this.#state = head.state;
    this.#best = head.best;
    this.#targetLogits = head.targetLogits;

    const layersOf = (who: Who): Layer[] =>
      weights.layers.map((layerWeights, layer) => ({
        weights: layerWeights,
        activations: activations[layer] as LayerActivations,
        lora:
          who === "policy"
            ? { factors: adapter.layers[layer] as LayerFactors, scale: loraScale(adapter.settings) }
            : null,
      }));
    const forward = (who: Who, sums: Matrix | null): Command[] => [
      ...embedding(gpu, { count: this.#tokens, tokens: this.#batch.tokens, w: weights.embedding, x: inputs[0]! }),
      ...layersOf(who).flatMap((layer, i) => layerForward(context, layer, scratch, inputs[i + 1]!)),
      ...gatherRows(gpu, { count: this.#rows, rows: this.#batch.headRows, x: inputs.at(-1)!, y: head.raw }),
      ...rmsNormForward(gpu, {
        count: this.#rows,
        x: head.raw,
        w: weights.finalNorm,
        eps: config.rmsNormEps,
        y: head.hidden,
        rstd: head.rstd,
      }),
      ...headForward(gpu, {
        count: this.#rows,
        hidden: head.hidden,
        w: weights.head,
        targets: this.#batch.targets,
        logits: head.logits,
        state: head.state,
        best: head.best,
        targetLogits: head.targetLogits,
        scale: head.scale,
        ...(sums ? { sums } : {}),
      }),
    ];
    this.#scoreReference = forward("reference", null);
    this.#scorePolicy = forward("policy", null);
    this.#trainForward = null;
    this.#trainBackward = null;
    if (!gradients) return;

    const sums = createMatrix(gpu, "head sums", maxTokens, config.hiddenSize);
    const dHidden = createMatrix(gpu, "gradient of head hidden", maxTokens, config.hiddenSize);
    const backwardScratch: BackwardScratch = allocate.backwardScratch(scratch, adapter.settings.r);
    this.#trainForward = forward("policy", sums);
    this.#trainBackward = [
      ...headBackward(gpu, {
        count: this.#rows,
        w: weights.head,
        targets: this.#batch.targets,
        state: head.state,
        sums,
        coefficients: this.#batch.coefficients,
        dHidden,
      }),
      // The sums have done their work: their buffer takes the gradient of the rows before the final norm.
      ...rmsNormBackward(gpu, {
        count: this.#rows,
        x: head.raw,
        w: weights.finalNorm,
        rstd: head.rstd,
        dy: dHidden,
        dx: sums,
        add: false,
      }),
      clear(backwardScratch.dx.range),
      ...scatterRows(gpu, { count: this.#rows, rows: this.#batch.headRows, x: sums, y: backwardScratch.dx }),
      ...layersOf("policy")
        .map((layer, i) => layerBackward(context, layer, gradients[i] as LayerFactors, backwardScratch, i === 0))
        .reverse()
        .flat(),
    ];
  }

  /** Log-probabilities of a batch without gradients. */
  async score(batch: PackedBatch, who: Who): Promise<HeadResults> {
    this.#upload(batch);
    return this.#run(who === "policy" ? this.#scorePolicy : this.#scoreReference);
  }

  /**
   * Forward and backward of one batch through the adapted model: the gradients are added to those already summed.
   * `coefficientsOf` gets what the head found and returns d loss / d log-probability of every target, (R, 2), 0 where
   * there is none. The backward pass is encoded while the GPU works on the forward pass, so the GPU waits only for that.
   */
  async train(batch: PackedBatch, coefficientsOf: (head: HeadResults) => Float32Array<ArrayBuffer>): Promise<void> {
    if (!this.#trainForward || !this.#trainBackward) throw new Error("internal: this model has no gradients");
    this.#upload(batch);
    const results = this.#run(this.#trainForward);
    results.catch(() => {}); // Awaited below, unless encoding throws first: never an unhandled rejection.
    const encoder = this.#gpu.device.createCommandEncoder();
    encode(encoder, this.#trainBackward);
    const backward = encoder.finish();
    const coefficients = coefficientsOf(await results);
    this.#gpu.write(this.#batch.coefficients.buffer, 0, coefficients);
    this.#gpu.device.queue.submit([backward]);
  }

  #upload(batch: PackedBatch): void {
    const gpu = this.#gpu;
    // Kernels look these up in tables: past the end they would read something else, and nobody would know.
    requireBelow("token", batch.tokens, this.vocabSize);
    requireBelow("position", batch.positions, this.#maxPositions);
    this.#tokens.set(batch.tokens.length);
    this.#rows.set(batch.headRows.length);
    for (const name of ["tokens", "positions", "visible", "queryEnd", "headRows", "targets"] as const) {
      gpu.write(this.#batch[name].buffer, 0, batch[name]);
    }
  }

  async #run(commands: readonly Command[]): Promise<HeadResults> {
    const rows = this.#rows.value;
    const readback = this.#gpu.readback(
      { ...this.#state, sizeBytes: rows * 16 },
      { ...this.#best, sizeBytes: rows * 4 },
      { ...this.#targetLogits, sizeBytes: rows * 8 },
    );
    const encoder = this.#gpu.device.createCommandEncoder();
    encode(encoder, commands);
    readback.encode(encoder);
    this.#gpu.device.queue.submit([encoder.finish()]);
    const [state, best, targetLogits] = await readback.finish();
    return {
      state: new Float32Array(state!),
      best: new Uint32Array(best!),
      targetLogits: new Float32Array(targetLogits!),
    };
  }
}

function requireBelow(what: string, values: Uint32Array, limit: number): void {
  const found = values.find((value) => value >= limit);
  if (found !== undefined) throw new Error(`internal: ${what} ${found} in a model of ${limit} ${what}s`);
}

interface BatchBuffers {
  readonly tokens: BufferRange;
  readonly positions: BufferRange;
  readonly visible: BufferRange;
  readonly queryEnd: BufferRange;
  readonly headRows: BufferRange;
  readonly targets: BufferRange;
  readonly coefficients: BufferRange;
}

function createBatchBuffers(gpu: Gpu, maxTokens: number): BatchBuffers {
  const words = (label: string, perToken: number) => wholeBuffer(gpu.buffer(label, maxTokens * perToken * 4));
  return {
    tokens: words("tokens", 1),
    positions: words("positions", 1),
    visible: words("visible rows", 4),
    queryEnd: words("query end", 1),
    headRows: words("head rows", 1),
    targets: words("targets", 2),
    coefficients: words("coefficients", 2),
  };
}

function createHeadBuffers(
  gpu: Gpu,
  hiddenSize: number,
  vocabSize: number,
  maxRows: number,
  { logitsBytes = LOGITS_BYTES }: PairModelOptions,
) {
  const words = (label: string, perRow: number) => wholeBuffer(gpu.buffer(label, maxRows * perRow * 4));
  const limitBytes = Math.min(logitsBytes, gpu.bindingLimitBytes);
  const chunk = Math.max(64, Math.floor(limitBytes / matrixBytes(maxRows, 64)) * 64);
  return {
    raw: createMatrix(gpu, "head rows before the final norm", maxRows, hiddenSize),
    hidden: createMatrix(gpu, "head rows", maxRows, hiddenSize),
    rstd: words("head rstd", 1),
    logits: createMatrix(gpu, "logits of a chunk", maxRows, Math.min(chunk, Math.ceil(vocabSize / 64) * 64)),
    state: words("softmax state", 4),
    best: words("most likely token", 1),
    targetLogits: words("target logits", 2),
    scale: words("softmax rescale", 1),
  };
}
