import type { BufferRange } from "../gpu/buffer.ts";
import type { Command } from "../gpu/commands.ts";
import type { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { attentionBackward, attentionForward } from "../ops/attention.ts";
import { rope, scatterRows, swigluBackward, swigluForward } from "../ops/elementwise.ts";
import type { Matrix } from "../ops/matrix.ts";
import { rmsNormBackward, rmsNormForward } from "../ops/norm.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";
import type { Projection } from "../weights/projections.ts";
import type { BackwardScratch, ForwardScratch, LayerActivations } from "./activations.ts";
import type { LayerWeights } from "./base-weights.ts";
import { type Linear, linearBackward, linearForward } from "./linear.ts";
import type { LayerFactors } from "./lora.ts";

/** What every layer of a forward pass shares. */
export interface PassContext {
  readonly gpu: Gpu;
  readonly config: LlamaConfig;
  readonly count: RowCount;
  readonly positions: BufferRange;
  readonly visible: BufferRange;
  readonly ropeTable: BufferRange;
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

function linearOf(context: PassContext, layer: Layer, projection: Projection, { half }: ForwardScratch): Linear {
  const factors = layer.lora?.factors[projection];
  const inner = layer.activations.loraInner[projection];
  return {
    count: context.count,
    half,
    w: layer.weights.projections[projection],
    lora: layer.lora && factors && inner ? { factors, scale: layer.lora.scale, inner } : null,
  };
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
  const { gpu, config, count, positions, visible, ropeTable: table } = context;
  const { weights, activations: at } = layer;
  const { normed, product } = scratch;
  const { rmsNormEps: eps, headDim } = config;
  const linear = (projection: Projection, x: Matrix, y: Matrix, residual?: Matrix) =>
    linearForward(gpu, linearOf(context, layer, projection, scratch), x, y, residual);

  return [
    ...rmsNormForward(gpu, { count, x: at.x, w: weights.inputNorm, eps, y: normed, rstd: at.rstdInput }),
    ...linear("q_proj", normed, at.q),
    ...linear("k_proj", normed, at.k),
    ...linear("v_proj", normed, at.v),
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
    }),
    ...linear("o_proj", at.attention, at.middle, at.x),
    ...rmsNormForward(gpu, { count, x: at.middle, w: weights.postAttentionNorm, eps, y: normed, rstd: at.rstdMiddle }),
    ...linear("gate_proj", normed, at.gate),
    ...linear("up_proj", normed, at.up),
    ...swigluForward(gpu, { count, gate: at.gate, up: at.up, y: product }),
    ...linear("down_proj", product, out, at.middle),
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
  const { gpu, config, count, positions, visible, queryEnd, ropeTable: table } = context;
  const { weights, activations: at } = layer;
  const { normed, product, dx, dNormed, dProduct, dGate, dUp, dAttention, dQ, dK, dV } = scratch;
  const { rmsNormEps: eps, headDim } = config;
  const linear = (projection: Projection, x: Matrix, dy: Matrix, dxOf: Matrix | null, add: boolean) =>
    linearBackward(gpu, linearOf(context, layer, projection, scratch), {
      x,
      dy,
      gradients: gradients[projection] ?? null,
      dInner: scratch.dLoraInner,
      dx: dxOf,
      add,
    });
  const dNormedOrNone = isLowest ? null : dNormed;

  return [
    // The MLP.
    ...swigluForward(gpu, { count, gate: at.gate, up: at.up, y: product }),
    ...linear("down_proj", product, dx, dProduct, false),
    ...swigluBackward(gpu, { gate: at.gate, up: at.up, dy: dProduct, dGate, dUp, count }),
    ...rmsNormForward(gpu, { count, x: at.middle, w: weights.postAttentionNorm, eps, y: normed, rstd: at.rstdMiddle }),
    ...linear("gate_proj", normed, dGate, dNormed, false),
    ...linear("up_proj", normed, dUp, dNormed, true),
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
    ...linear("o_proj", at.attention, dx, dAttention, false),
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
      dO: dAttention,
      dQ,
      dK,
      dV,
    }),
    ...rope(gpu, { count, positions, table, x: dQ, headDim, inverse: true }),
    ...rope(gpu, { count, positions, table, x: dK, headDim, inverse: true }),
    ...rmsNormForward(gpu, { count, x: at.x, w: weights.inputNorm, eps, y: normed, rstd: at.rstdInput }),
    ...linear("q_proj", normed, dQ, dNormedOrNone, false),
    ...linear("k_proj", normed, dK, dNormedOrNone, true),
    ...linear("v_proj", normed, dV, dNormedOrNone, true),
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
