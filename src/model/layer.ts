import type { BufferRange } from "../gpu/buffer.ts";
import type { Command } from "../gpu/commands.ts";
import type { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { attentionBackward, attentionForward } from "../ops/attention.ts";
import { rope, scatterRows, swigluBackward } from "../ops/elementwise.ts";
import type { Matrix } from "../ops/matrix.ts";
import { rmsNormBackward, rmsNormForward } from "../ops/norm.ts";
import type { TensorAttention } from "../ops/tensor-attention.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";
import type { Projection } from "../weights/projections.ts";
import type { BackwardScratch, ForwardScratch, LayerActivations, Stored } from "./activations.ts";
import type { LayerWeights } from "./base-weights.ts";
import { type Linear, linearBackward, linearForward, type Operand, operandOf, productOf } from "./linear.ts";
import type { LayerFactors } from "./lora.ts";

/** What every layer of a forward pass shares. */
export interface PassContext {
  readonly gpu: Gpu;
  readonly config: LlamaConfig;
  readonly count: RowCount;
  readonly positions: BufferRange;
  readonly visible: BufferRange;
  readonly ropeTable: BufferRange;
  /** Null where attention is computed in f32. */
  readonly tensorAttention: TensorAttention | null;
  /** Pairs of a row and a row that it sees, in the batch at hand: for a profile. */
  readonly scores?: () => number;
}

/** What every layer of a backward pass shares. */
export interface BackwardContext extends PassContext {
  readonly queryEnd: BufferRange;
}

export interface Layer {
  readonly weights: LayerWeights;
  readonly activations: LayerActivations;
  /** Null for the base alone: the reference. */
  readonly lora: { readonly factors: LayerFactors; readonly scale: number } | null;
}

function linearOf(context: PassContext, layer: Layer, projection: Projection): Linear {
  const factors = layer.lora?.factors[projection];
  const inner = layer.activations.loraInner[projection];
  return {
    count: context.count,
    w: layer.weights.projections[projection],
    lora: layer.lora && factors && inner ? { factors, scale: layer.lora.scale, inner } : null,
  };
}

/** An operand, and the commands that make it one. */
interface Packing {
  readonly pack: Command[];
  readonly operand: Operand;
}

/** A layer's keys and values in generation: (positions, keyValueHeads · D), row p those of position p. */
export interface KeyValueCache {
  readonly k: Matrix;
  readonly v: Matrix;
}

/**
 * One Llama block: out = m + mlp(norm(m)),  m = x + attention(norm(x)). With a cache, the keys and values of these rows go
 * into it and `visible` names rows of it; `out` may then be x itself, which no backward pass will ask for.
 */
export function layerForward(
  context: PassContext,
  layer: Layer,
  scratch: ForwardScratch,
  out: Matrix,
  cache?: KeyValueCache,
): Command[] {
  const { gpu, count } = context;
  const { activations: at } = layer;
  const product = productOf(gpu, count, at, scratch);
  return [
    ...attentionHalf(context, layer, scratch, cache),
    ...gateAndUp(context, layer, scratch),
    ...product.pack,
    ...linearForward(gpu, linearOf(context, layer, "down_proj"), product.operand, out, at.middle),
  ];
}

/** Computes again what `stored` does not keep of a layer's forward pass, before its backward pass. */
export function layerAgain(context: PassContext, layer: Layer, scratch: ForwardScratch, stored: Stored): Command[] {
  return [
    ...(stored === "layer inputs" ? attentionHalf(context, layer, scratch) : []),
    ...(stored === "everything" ? [] : gateAndUp(context, layer, scratch)),
  ];
}

/** m = x + attention(norm(x)). */
function attentionHalf(context: PassContext, layer: Layer, scratch: ForwardScratch, cache?: KeyValueCache): Command[] {
  const { gpu, config, count, positions, visible, ropeTable: table, tensorAttention: tensor } = context;
  const { weights, activations: at } = layer;
  const { rmsNormEps: eps, headDim } = config;
  const input = operandOf(gpu, count, scratch.normed, scratch.half);
  const attention = operandOf(gpu, count, at.attention, scratch.half);
  const linear = (projection: Projection, { operand }: Packing, y: Matrix, residual?: Matrix) =>
    linearForward(gpu, linearOf(context, layer, projection), operand, y, residual);
  return [
    ...rmsNormForward(gpu, { count, x: at.x, w: weights.inputNorm, eps, y: scratch.normed, rstd: at.rstdInput }),
    ...input.pack,
    ...linear("q_proj", input, at.q),
    ...linear("k_proj", input, at.k),
    ...linear("v_proj", input, at.v),
    ...rope(gpu, { count, positions, table, x: at.q, headDim, inverse: false }),
    ...rope(gpu, { count, positions, table, x: at.k, headDim, inverse: false }),
    ...(cache ? scatterRows(gpu, { count, rows: positions, x: at.k, y: cache.k }) : []),
    ...(cache ? scatterRows(gpu, { count, rows: positions, x: at.v, y: cache.v }) : []),
    ...attentionForward(gpu, {
      count,
      shape: config,
      visible,
      q: at.q,
      k: cache?.k ?? at.k,
      v: cache?.v ?? at.v,
      o: at.attention,
      stats: at.attentionStats,
      tensor,
      scores: context.scores,
    }),
    ...attention.pack,
    ...linear("o_proj", attention, at.middle, at.x),
  ];
}

/** The first half of mlp(norm(m)). */
function gateAndUp(context: PassContext, layer: Layer, scratch: ForwardScratch): Command[] {
  const { gpu, config, count } = context;
  const { weights, activations: at } = layer;
  const input = operandOf(gpu, count, scratch.normed, scratch.half);
  return [
    ...rmsNormForward(gpu, {
      count,
      x: at.middle,
      w: weights.postAttentionNorm,
      eps: config.rmsNormEps,
      y: scratch.normed,
      rstd: at.rstdMiddle,
    }),
    ...input.pack,
    ...linearForward(gpu, linearOf(context, layer, "gate_proj"), input.operand, at.gate),
    ...linearForward(gpu, linearOf(context, layer, "up_proj"), input.operand, at.up),
  ];
}

/**
 * Backward of `layerForward`. `scratch.dx` holds the gradient of the layer's output and, afterwards, of its input; where
 * `isLowest`, nothing below is trained and the gradient of the input is left unfinished. Normalised inputs and the product
 * of the MLP are computed again rather than kept.
 */
export function layerBackward(
  context: BackwardContext,
  layer: Layer,
  gradients: LayerFactors,
  scratch: BackwardScratch,
  isLowest: boolean,
): Command[] {
  const { gpu, config, count, positions, visible, queryEnd, ropeTable: table, tensorAttention: tensor } = context;
  const { weights, activations: at } = layer;
  const { normed, dx, dNormed, dProduct, dGate, dUp, dAttention, dQ, dK, dV } = scratch;
  const { rmsNormEps: eps, headDim } = config;
  const isTrained = (...projections: Projection[]) => projections.some((projection) => gradients[projection]);
  // Inputs are wanted for the gradients of LoRA alone.
  const operand = (matrix: Matrix, isWanted: boolean) => operandOf(gpu, count, matrix, isWanted ? scratch.half : null);
  const product = productOf(gpu, count, at, scratch);
  const attention = operand(at.attention, isTrained("o_proj"));
  const mlpInput = operand(normed, isTrained("gate_proj", "up_proj"));
  const attentionInput = operand(normed, isTrained("q_proj", "k_proj", "v_proj"));
  const linear = (projection: Projection, x: Packing, dy: Matrix, dxOf: Matrix | null, add: boolean) => {
    const { pack, operand: gradient } = operandOf(gpu, count, dy, scratch.gradientHalf?.rows ?? null);
    return [
      ...pack,
      ...linearBackward(gpu, linearOf(context, layer, projection), {
        x: x.operand,
        dy: gradient,
        gradients: gradients[projection] ?? null,
        dInner: scratch.dLoraInner,
        workspace: scratch.gradientHalf?.workspace ?? null,
        dx: dxOf,
        add,
      }),
    ];
  };
  const dNormedOrNone = isLowest ? null : dNormed;

  return [
    // The MLP.
    ...(isTrained("down_proj") ? product.pack : []),
    ...linear("down_proj", product, dx, dProduct, false),
    ...swigluBackward(gpu, { gate: at.gate, up: at.up, dy: dProduct, dGate, dUp, count }),
    ...rmsNormForward(gpu, { count, x: at.middle, w: weights.postAttentionNorm, eps, y: normed, rstd: at.rstdMiddle }),
    ...mlpInput.pack,
    ...linear("gate_proj", mlpInput, dGate, dNormed, false),
    ...linear("up_proj", mlpInput, dUp, dNormed, true),
    ...rmsNormBackward(gpu, {
      count,
      x: at.middle,
      w: weights.postAttentionNorm,
      rstd: at.rstdMiddle,
      dy: dNormed,
      dx,
      add: true,
    }),
    // Attention.
    ...attention.pack,
    ...linear("o_proj", attention, dx, dAttention, false),
    ...attentionBackward(gpu, {
      count,
      shape: config,
      visible,
      queryEnd,
      q: at.q,
      k: at.k,
      v: at.v,
      o: at.attention,
      stats: at.attentionStats,
      tensor,
      scores: context.scores,
      dO: dAttention,
      dQ,
      dK,
      dV,
    }),
    ...rope(gpu, { count, positions, table, x: dQ, headDim, inverse: true }),
    ...rope(gpu, { count, positions, table, x: dK, headDim, inverse: true }),
    ...rmsNormForward(gpu, { count, x: at.x, w: weights.inputNorm, eps, y: normed, rstd: at.rstdInput }),
    ...attentionInput.pack,
    ...linear("q_proj", attentionInput, dQ, dNormedOrNone, false),
    ...linear("k_proj", attentionInput, dK, dNormedOrNone, true),
    ...linear("v_proj", attentionInput, dV, dNormedOrNone, true),
    ...(isLowest
      ? []
      : rmsNormBackward(gpu, {
          count,
          x: at.x,
          w: weights.inputNorm,
          rstd: at.rstdInput,
          dy: dNormed,
          dx,
          add: true,
        })),
  ];
}
