import type { LlamaConfig } from "../../src/weights/llama-config.ts";
import { PROJECTIONS, type Projection, projectionSize } from "../../src/weights/projections.ts";
import type { Numbers } from "../numbers.ts";
import { type Attention, type AttentionSizes, attentionBackward, attentionForward } from "./attention.ts";
import { embedding } from "./embedding.ts";
import { type Head, headBackward, headForward } from "./head.ts";
import { addScaled, matmulNN, matmulNT, matmulTN } from "./matmul.ts";
import { rmsNormBackward, rmsNormForward } from "./norm.ts";
import { exactTurn, rope } from "./rope.ts";
import type { Sequence } from "./sequences.ts";
import { swigluBackward, swigluForward } from "./swiglu.ts";

// Llama with LoRA in float64, forward and backward, one sequence at a time. Shapes: T tokens, C hidden, I intermediate,
// H heads and K key-value heads of D, V vocabulary, r rank. A linear layer's weight is (out, in).

export interface ReferenceLayer {
  readonly inputNorm: Numbers; // (C)
  readonly postAttentionNorm: Numbers; // (C)
  readonly projections: Readonly<Record<Projection, Numbers>>;
}

export interface ReferenceModel {
  readonly config: LlamaConfig;
  readonly embedding: Numbers; // (V, C)
  readonly layers: readonly ReferenceLayer[];
  readonly finalNorm: Numbers; // (C)
  readonly head: Numbers; // (V, C)
}

/** A (r, in) and B (out, r), or their gradients. */
export interface ReferenceFactors {
  readonly a: Numbers;
  readonly b: Numbers;
}

export type ReferenceLayerFactors = Readonly<Partial<Record<Projection, ReferenceFactors>>>;

export interface ReferenceAdapter {
  readonly r: number;
  /** The factor of B·A. */
  readonly scale: number;
  readonly layers: readonly ReferenceLayerFactors[];
}

interface LayerActivations {
  readonly x: Numbers; // (T, C), the layer's input
  readonly normedInput: Float64Array; // (T, C)
  readonly q: Float64Array; // (T, H · D), turned
  readonly k: Float64Array; // (T, K · D), turned
  readonly v: Float64Array; // (T, K · D)
  readonly attention: Attention;
  readonly middle: Float64Array; // (T, C), after attention
  readonly normedMiddle: Float64Array; // (T, C)
  readonly gate: Float64Array; // (T, I)
  readonly up: Float64Array; // (T, I)
  readonly product: Float64Array; // (T, I), silu(gate) · up
}

interface Activations {
  readonly layers: readonly LayerActivations[];
  readonly last: Float64Array; // (T, C), the last layer's output
  readonly head: Head;
}

/** The log-probabilities of a sequence's targets, in nats. `adapter` null: the base alone. */
export function llamaLogps(model: ReferenceModel, adapter: ReferenceAdapter | null, sequence: Sequence): Float64Array {
  const { head } = forward(model, adapter, sequence);
  const { vocabSize } = model.config;
  return Float64Array.from(sequence.targets, ({ row, token }) => head.logps[row * vocabSize + token]!);
}

/** The gradient of Σ_i coefficients[i] · log p(targets[i]) with respect to every factor of the adapter. */
export function llamaGradients(
  model: ReferenceModel,
  adapter: ReferenceAdapter,
  sequence: Sequence,
  coefficients: Numbers,
): ReferenceLayerFactors[] {
  const { config } = model;
  const { hiddenSize, rmsNormEps } = config;
  const { layers, last, head } = forward(model, adapter, sequence);

  const dHidden = headBackward(head.logps, model.head, hiddenSize, sequence.targets, coefficients);
  let dx = rmsNormBackward(last, model.finalNorm, rmsNormEps, dHidden);
  const gradients: ReferenceLayerFactors[] = [];
  for (let layer = config.layers - 1; layer >= 0; layer--) {
    const result = layerBackward(model, adapter, layer, sequence, layers[layer]!, dx);
    gradients.unshift(result.gradients);
    dx = result.dx;
  }
  return gradients;
}

function forward(model: ReferenceModel, adapter: ReferenceAdapter | null, sequence: Sequence): Activations {
  const { config } = model;
  let x = embedding(sequence.tokens, model.embedding, config.hiddenSize);
  const layers: LayerActivations[] = [];
  for (let layer = 0; layer < config.layers; layer++) {
    const { activations, out } = layerForward(model, adapter, layer, sequence, x);
    layers.push(activations);
    x = out;
  }
  const { y: hidden } = rmsNormForward(x, model.finalNorm, config.rmsNormEps);
  return { layers, last: x, head: headForward(hidden, model.head, config.hiddenSize) };
}

/** A block: middle = x + attention(norm(x)),  out = middle + mlp(norm(middle)). */
function layerForward(
  model: ReferenceModel,
  adapter: ReferenceAdapter | null,
  layer: number,
  sequence: Sequence,
  x: Numbers,
): { activations: LayerActivations; out: Float64Array } {
  const { config } = model;
  const weights = model.layers[layer]!;
  const turn = exactTurn(config.headDim, config.rope);
  const turned = (y: Float64Array) => rope(y, sequence.positions, config.headDim, turn, 1);
  const linear = (projection: Projection, input: Numbers) => linearForward(model, adapter, layer, projection, input);

  const normedInput = rmsNormForward(x, weights.inputNorm, config.rmsNormEps).y;
  const q = turned(linear("q_proj", normedInput));
  const k = turned(linear("k_proj", normedInput));
  const v = linear("v_proj", normedInput);
  const attention = attentionForward(q, k, v, attentionSizes(config, sequence), sequence.sees);
  const middle = addScaled(x, linear("o_proj", attention.o));

  const normedMiddle = rmsNormForward(middle, weights.postAttentionNorm, config.rmsNormEps).y;
  const gate = linear("gate_proj", normedMiddle);
  const up = linear("up_proj", normedMiddle);
  const product = swigluForward(gate, up);
  const out = addScaled(middle, linear("down_proj", product));
  return { activations: { x, normedInput, q, k, v, attention, middle, normedMiddle, gate, up, product }, out };
}

/** `dOut` is the gradient of the block's output, `dx` that of its input. */
function layerBackward(
  model: ReferenceModel,
  adapter: ReferenceAdapter,
  layer: number,
  sequence: Sequence,
  at: LayerActivations,
  dOut: Float64Array,
): { dx: Float64Array; gradients: ReferenceLayerFactors } {
  const { config } = model;
  const weights = model.layers[layer]!;
  const turn = exactTurn(config.headDim, config.rope);
  const turnedBack = (dy: Float64Array) => rope(dy, sequence.positions, config.headDim, turn, -1);
  const gradients: Partial<Record<Projection, ReferenceFactors>> = {};
  const linear = (projection: Projection, input: Numbers, dy: Numbers) => {
    const result = linearBackward(model, adapter, layer, projection, input, dy);
    if (result.factors) gradients[projection] = result.factors;
    return result.dx;
  };

  const dProduct = linear("down_proj", at.product, dOut);
  const { dGate, dUp } = swigluBackward(at.gate, at.up, dProduct);
  const dNormedMiddle = addScaled(linear("gate_proj", at.normedMiddle, dGate), linear("up_proj", at.normedMiddle, dUp));
  const dMiddle = addScaled(
    dOut,
    rmsNormBackward(at.middle, weights.postAttentionNorm, config.rmsNormEps, dNormedMiddle),
  );

  const dO = linear("o_proj", at.attention.o, dMiddle);
  const { dQ, dK, dV } = attentionBackward(at.q, at.k, at.v, at.attention.p, dO, attentionSizes(config, sequence));
  const dNormedInput = [
    linear("q_proj", at.normedInput, turnedBack(dQ)),
    linear("k_proj", at.normedInput, turnedBack(dK)),
    linear("v_proj", at.normedInput, dV),
  ].reduce((sum, term) => addScaled(sum, term));
  const dx = addScaled(dMiddle, rmsNormBackward(at.x, weights.inputNorm, config.rmsNormEps, dNormedInput));
  return { dx, gradients };
}

/** y = x·Wᵀ + scale · (x·Aᵀ)·Bᵀ  (Hu et al. 2021, equation 3). x (T, in), y (T, out). */
function linearForward(
  model: ReferenceModel,
  adapter: ReferenceAdapter | null,
  layer: number,
  projection: Projection,
  x: Numbers,
): Float64Array {
  const { inFeatures, outFeatures } = projectionSize(model.config, projection);
  const m = x.length / inFeatures;
  const y = matmulNT(x, model.layers[layer]!.projections[projection], { m, n: outFeatures, k: inFeatures });
  const factors = adapter?.layers[layer]?.[projection];
  if (!adapter || !factors) return y;
  const inner = matmulNT(x, factors.a, { m, n: adapter.r, k: inFeatures });
  return addScaled(y, matmulNT(inner, factors.b, { m, n: outFeatures, k: adapter.r }), adapter.scale);
}

/** The gradients of `linearForward`: of its input, and of A and B through ΔW = scale · B·A. */
function linearBackward(
  model: ReferenceModel,
  adapter: ReferenceAdapter,
  layer: number,
  projection: Projection,
  x: Numbers,
  dy: Numbers,
): { dx: Float64Array; factors: ReferenceFactors | null } {
  const { inFeatures, outFeatures } = projectionSize(model.config, projection);
  const t = x.length / inFeatures;
  const w = model.layers[layer]!.projections[projection];
  const factors = adapter.layers[layer]?.[projection];
  if (!factors) return { dx: matmulNN(dy, w, { m: t, n: outFeatures, k: inFeatures }), factors: null };

  const { r, scale } = adapter;
  const merged = addScaled(w, matmulNN(factors.b, factors.a, { m: outFeatures, n: r, k: inFeatures }), scale);
  const dW = matmulTN(dy, x, { t, i: outFeatures, j: inFeatures });
  return {
    dx: matmulNN(dy, merged, { m: t, n: outFeatures, k: inFeatures }),
    factors: {
      a: matmulTN(factors.b, dW, { t: outFeatures, i: r, j: inFeatures }).map((value) => scale * value),
      b: matmulNT(dW, factors.a, { m: outFeatures, n: r, k: inFeatures }).map((value) => scale * value),
    },
  };
}

function attentionSizes(config: LlamaConfig, { tokens }: Sequence): AttentionSizes {
  const { heads, keyValueHeads, headDim } = config;
  return { queries: tokens.length, keys: tokens.length, heads, keyValueHeads, headDim };
}

/** Every factor with its name, in the order of PROJECTIONS. */
export function* eachReferenceFactor(
  layers: readonly ReferenceLayerFactors[],
): Generator<{ layer: number; projection: Projection; factor: "a" | "b"; values: Numbers }> {
  for (const [layer, factors] of layers.entries()) {
    for (const projection of PROJECTIONS) {
      const pair = factors[projection];
      if (!pair) continue;
      yield { layer, projection, factor: "a", values: pair.a };
      yield { layer, projection, factor: "b", values: pair.b };
    }
  }
}
