import { type BufferRange, totalBytes, wholeBuffer } from "../gpu/buffer.ts";
import { type Command, clear } from "../gpu/commands.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { embedding, gatherRows, scatterRows } from "../ops/elementwise.ts";
import { createHalfRows } from "../ops/half-rows.ts";
import { exponentialRows, headBackward, headDivergence, headForward } from "../ops/head.ts";
import { createMatrix, type Matrix, matrixBytes } from "../ops/matrix.ts";
import { rmsNormBackward, rmsNormForward } from "../ops/norm.ts";
import { PeakSlots } from "../ops/peak.ts";
import { ATTENTION_PEAKS, createTensorAttention, type TensorAttention } from "../ops/tensor-attention.ts";
import { createGradientWorkspace } from "../ops/tensor-gradient.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";
import { loraScale } from "../weights/peft-config.ts";
import { ActivationAllocator, type LayerActivations, type Stored, widestFactor } from "./activations.ts";
import type { BaseWeights } from "./base-weights.ts";
import type { BatchBuffers } from "./batch-buffers.ts";
import { type BackwardContext, type Layer, layerAgain, layerBackward, layerForward } from "./layer.ts";
import { eachFactor, type LayerFactors, type LoraBuffers } from "./lora.ts";
import { ropeTable } from "./rope-table.ts";

/** Whose log-probabilities: the adapted model's, or the frozen base's. */
export type Who = "policy" | "reference";

export interface PairPlanOptions {
  readonly gpu: Gpu;
  readonly weights: BaseWeights;
  readonly adapter: LoraBuffers;
  /** Sums of the adapter's gradients; null for a model that only scores. */
  readonly gradients: readonly LayerFactors[] | null;
  /** Packed rows that a batch may have. */
  readonly maxTokens: number;
  /** Positions that a sequence may have. */
  readonly maxPositions: number;
  /** Whether the KL divergence over the whole vocabulary is asked for. It takes a second chunk of logits. */
  readonly divergence?: boolean;
  /** What is kept from forward to backward, everything if not given. */
  readonly stored?: Stored;
  /** Bytes for one chunk of logits, {@link LOGITS_BYTES} if not given. */
  readonly logitsBytes?: number;
}

/** Default size of the chunk of logits that exists at a time. */
const LOGITS_BYTES = 256 * 2 ** 20;

/** The dispatches of every pass over a packed batch, and the buffers where their results are found. */
export interface PairPlans {
  readonly score: Readonly<Record<Who, readonly Command[]>>;
  readonly train: { readonly forward: readonly Command[]; readonly backward: readonly Command[] } | null;
  readonly divergence: readonly Command[] | null;
  readonly head: HeadBuffers;
  /** (R, 8) f32: see `headDivergence`. */
  readonly divergenceState: BufferRange | null;
  /** Bytes of what is kept from the forward to the backward pass, and of the head's rows and chunks. */
  /** Null where attention is computed in f32. */
  readonly tensorAttention: TensorAttention | null;
  readonly memory: { readonly activations: number; readonly head: number };
}

/** Allocates activations for `maxTokens` rows and lists, in order, what each pass does with them. */
export function createPairPlans(options: PairPlanOptions, batch: BatchBuffers): PairPlans {
  const { gpu, weights, adapter, gradients, maxTokens, maxPositions, stored = "everything" } = options;
  const { config } = weights;
  const { tokenCount, headCount } = batch;
  const isHalf = weights.head.format === "f16";
  const peaks = isHalf && gradients ? new PeakSlots(gpu, peakSlots(gradients)) : null;
  const context = createContext(gpu, config, batch, maxPositions, isHalf, peaks);
  const allocate = new ActivationAllocator(gpu, config, maxTokens);
  const kept = gpu.collect(() => {
    const inputs = Array.from({ length: config.layers + 1 }, (_, layer) => allocate.hidden(`input of layer ${layer}`));
    return { inputs, activations: allocate.layers(inputs.slice(0, config.layers), adapter.settings, stored) };
  });
  const { inputs, activations } = kept.value;
  const { value: head, buffers: headBuffers } = gpu.collect(() => createHeadBuffers(gpu, config, options));
  const widest = widestFactor(config);
  const half = isHalf ? createHalfRows(gpu, "input in f16", maxTokens, widest) : null;
  const gradientHalf = peaks
    ? {
        // The head's exponentials are made before there is any gradient.
        rows: createHalfRows(gpu, "gradient in f16", maxTokens, Math.max(widest, head.logits.cols)),
        workspace: createGradientWorkspace(gpu, maxTokens, widest, adapter.settings.r, peaks),
      }
    : null;
  const headHalf = half && {
    hidden: half,
    exponentials: gradientHalf && exponentialRows(gpu, gradientHalf.rows, maxTokens),
  };
  const scratch = allocate.forwardScratch(half);

  const layersOf = (who: Who): Layer[] =>
    weights.layers.map((layerWeights, layer) => {
      const factors = adapter.layers[layer] as LayerFactors;
      const lora = who === "policy" ? { factors, scale: loraScale(adapter.settings) } : null;
      return { weights: layerWeights, activations: activations[layer] as LayerActivations, lora };
    });
  const hiddenRows = (who: Who, hidden: Matrix): Command[] => [
    ...embedding(gpu, { count: tokenCount, tokens: batch.tokens, w: weights.embedding, x: inputs[0]! }),
    ...layersOf(who).flatMap((layer, i) => layerForward(context, layer, scratch, inputs[i + 1]!)),
    ...gatherRows(gpu, { count: headCount, rows: batch.headRows, x: inputs.at(-1)!, y: head.raw }),
    ...rmsNormForward(gpu, {
      count: headCount,
      x: head.raw,
      w: weights.finalNorm,
      eps: config.rmsNormEps,
      y: hidden,
      rstd: head.rstd,
    }),
  ];
  const forward = (who: Who, sums?: Matrix): Command[] => [
    ...hiddenRows(who, head.hidden),
    ...headForward(gpu, {
      ...head,
      half: headHalf,
      count: headCount,
      w: weights.head,
      targets: batch.targets,
      ...(sums && { sums }),
    }),
  ];

  const train = (trained: readonly LayerFactors[]): NonNullable<PairPlans["train"]> => {
    const sums = createMatrix(gpu, "head sums", maxTokens, config.hiddenSize);
    const dHidden = createMatrix(gpu, "gradient of head hidden", maxTokens, config.hiddenSize);
    const backwardScratch = allocate.backwardScratch(scratch, adapter.settings.r, gradientHalf);
    const { targets, coefficients } = batch;
    const backward = [
      ...(peaks ? [peaks.clear] : []),
      ...headBackward(gpu, {
        count: headCount,
        w: weights.head,
        targets,
        state: head.state,
        sums,
        coefficients,
        dHidden,
      }),
      // The sums have done their work: their buffer takes the gradient of the rows before the final norm.
      ...rmsNormBackward(gpu, {
        count: headCount,
        x: head.raw,
        w: weights.finalNorm,
        rstd: head.rstd,
        dy: dHidden,
        dx: sums,
        add: false,
      }),
      clear(backwardScratch.dx.range),
      ...scatterRows(gpu, { count: headCount, rows: batch.headRows, x: sums, y: backwardScratch.dx }),
      ...layersOf("policy")
        .map((layer, i) => [
          // Of the last layer everything is still there.
          ...(i === config.layers - 1 ? [] : layerAgain(context, layer, scratch, stored)),
          ...layerBackward(context, layer, trained[i] as LayerFactors, backwardScratch, i === 0),
        ])
        .reverse()
        .flat(),
    ];
    return { forward: forward("policy", sums), backward };
  };

  const divergence = (state: BufferRange): Command[] => {
    const hiddenReference = createMatrix(gpu, "head rows of the reference", maxTokens, config.hiddenSize);
    const logitsReference = createMatrix(gpu, "logits of the reference", maxTokens, head.logits.cols);
    return [
      ...hiddenRows("reference", hiddenReference),
      ...hiddenRows("policy", head.hidden),
      ...headDivergence(gpu, {
        count: headCount,
        hidden: head.hidden,
        hiddenReference,
        w: weights.head,
        logits: head.logits,
        logitsReference,
        state,
        half: half && {
          hidden: half,
          hiddenReference: createHalfRows(gpu, "reference's head rows in f16", maxTokens, config.hiddenSize),
        },
      }),
    ];
  };
  const divergenceState = options.divergence ? wholeBuffer(gpu.buffer("divergence state", maxTokens * 32)) : null;

  return {
    score: { policy: forward("policy"), reference: forward("reference") },
    train: gradients && train(gradients),
    divergence: divergenceState && divergence(divergenceState),
    head,
    divergenceState,
    tensorAttention: context.tensorAttention,
    memory: { activations: totalBytes(kept.buffers), head: totalBytes(headBuffers) },
  };
}

/** Of attention in each layer, and of each gradient of a factor. */
function peakSlots(gradients: readonly LayerFactors[]): number {
  return gradients.length * ATTENTION_PEAKS + [...eachFactor(gradients)].length;
}

function createContext(
  gpu: Gpu,
  config: LlamaConfig,
  batch: BatchBuffers,
  maxPositions: number,
  isHalf: boolean,
  peaks: PeakSlots | null,
): BackwardContext {
  const table = ropeTable(config, maxPositions);
  const tableBuffer = gpu.buffer("rope table", table.byteLength);
  gpu.write(tableBuffer, 0, table);
  const { tokenCount, positions, visible, queryEnd } = batch;
  const maxRows = tokenCount.max;
  const tensorAttention = isHalf ? createTensorAttention(gpu, { shape: config, maxRows, peaks }) : null;
  return {
    gpu,
    config,
    count: tokenCount,
    positions,
    visible,
    queryEnd,
    ropeTable: wholeBuffer(tableBuffer),
    tensorAttention,
    scores: () => batch.scores,
  };
}

interface HeadBuffers {
  /** The rows that predict a token, before and after the final norm: (R, C). */
  readonly raw: Matrix;
  readonly hidden: Matrix;
  readonly rstd: BufferRange;
  /** See `HeadForward` for the others. */
  readonly logits: Matrix;
  readonly state: BufferRange;
  readonly best: BufferRange;
  readonly targetLogits: BufferRange;
  readonly scale: BufferRange;
}

function createHeadBuffers(
  gpu: Gpu,
  { hiddenSize, vocabSize }: LlamaConfig,
  { maxTokens, logitsBytes = LOGITS_BYTES }: PairPlanOptions,
): HeadBuffers {
  const words = (label: string, perRow: number) => wholeBuffer(gpu.buffer(label, maxTokens * perRow * 4));
  const limitBytes = Math.min(logitsBytes, gpu.bindingLimitBytes);
  const chunk = Math.max(64, Math.floor(limitBytes / matrixBytes(maxTokens, 64)) * 64);
  return {
    raw: createMatrix(gpu, "head rows before the final norm", maxTokens, hiddenSize),
    hidden: createMatrix(gpu, "head rows", maxTokens, hiddenSize),
    rstd: words("head rstd", 1),
    logits: createMatrix(gpu, "logits of a chunk", maxTokens, Math.min(chunk, Math.ceil(vocabSize / 64) * 64)),
    state: words("softmax state", 4),
    best: words("most likely token", 1),
    targetLogits: words("target logits", 2),
    scale: words("softmax rescale", 1),
  };
}
