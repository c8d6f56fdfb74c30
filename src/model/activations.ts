import { type BufferRange, wholeBuffer } from "../gpu/buffer.ts";
import type { Gpu } from "../gpu/gpu.ts";
import type { HalfRows } from "../ops/half-rows.ts";
import { createMatrix, type Matrix } from "../ops/matrix.ts";
import type { GradientWorkspace } from "../ops/tensor-gradient.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";
import type { LoraSettings } from "../weights/peft-config.ts";
import { PROJECTIONS, type Projection } from "../weights/projections.ts";

/** What the forward pass of a layer writes and its backward pass reads. All (T, …) f32. */
export interface LayerActivations {
  /** The layer's input: (T, C). */
  readonly x: Matrix;
  readonly rstdInput: BufferRange;
  /** After rotary embedding: (T, heads · D) and (T, keyValueHeads · D). */
  readonly q: Matrix;
  readonly k: Matrix;
  readonly v: Matrix;
  readonly attention: Matrix;
  readonly attentionStats: BufferRange;
  /** The residual stream after attention: (T, C). */
  readonly middle: Matrix;
  readonly rstdMiddle: BufferRange;
  readonly gate: Matrix;
  readonly up: Matrix;
  /** scale · x·Aᵀ of each adapted projection: (T, r). */
  readonly loraInner: Readonly<Partial<Record<Projection, Matrix>>>;
}

/**
 * What of a layer is kept from forward to backward. The rest has one buffer for all layers, and backward computes it again:
 * with the same kernels on the same numbers, so that the gradients are the same to the bit.
 */
export type Stored = "everything" | "without gate and up" | "layer inputs";

/** What one layer uses and the next may overwrite. */
export interface ForwardScratch {
  /** The normalised input of a block: (T, C). */
  readonly normed: Matrix;
  /** silu(gate) · up: (T, I). Null on the f16 path, which packs it as it computes it. */
  readonly product: Matrix | null;
  /** The input of the linear layers at hand in f16; null on the f32 path. */
  readonly half: HalfRows | null;
}

/** What backward needs besides on the f16 path. */
export interface GradientHalf {
  /** The gradient of the output of the linear layer at hand, in f16. */
  readonly rows: HalfRows;
  readonly workspace: GradientWorkspace;
}

export interface BackwardScratch extends ForwardScratch {
  /** The gradient of the residual stream, carried from layer to layer: (T, C). */
  readonly dx: Matrix;
  readonly dNormed: Matrix;
  readonly dProduct: Matrix;
  readonly dGate: Matrix;
  readonly dUp: Matrix;
  readonly dAttention: Matrix;
  readonly dQ: Matrix;
  readonly dK: Matrix;
  readonly dV: Matrix;
  /** scale · dY·B of the projection at hand: (T, r). */
  readonly dLoraInner: Matrix | null;
  /** Null on the f32 path. */
  readonly gradientHalf: GradientHalf | null;
}

/** Columns of the widest matrix that is multiplied by a weight, forward or backward. */
export function widestFactor({ hiddenSize, intermediateSize, heads, headDim }: LlamaConfig): number {
  return Math.max(hiddenSize, intermediateSize, heads * headDim);
}

/** Allocates matrices of `tokens` rows for a model. */
export class ActivationAllocator {
  readonly #gpu: Gpu;
  readonly #config: LlamaConfig;
  readonly #tokens: number;

  constructor(gpu: Gpu, config: LlamaConfig, tokens: number) {
    this.#gpu = gpu;
    this.#config = config;
    this.#tokens = tokens;
  }

  hidden(label: string): Matrix {
    return this.#matrix(label, this.#config.hiddenSize);
  }

  /** The activations of all layers, `inputs[i]` being that of layer i. */
  layers(inputs: readonly Matrix[], lora: LoraSettings | null, stored: Stored): LayerActivations[] {
    const one = stored === "layer inputs" ? this.#attentionPart("layer at hand") : null;
    const mlp = stored === "everything" ? null : this.#mlpPart("layer at hand");
    return inputs.map((x, layer) => ({
      x,
      ...(one ?? this.#attentionPart(`layer ${layer}`)),
      ...(mlp ?? this.#mlpPart(`layer ${layer}`)),
      // Small, and that of down_proj is not computed again.
      loraInner: this.#loraInner(`layer ${layer}`, lora),
    }));
  }

  #attentionPart(label: string): Omit<LayerActivations, "x" | "gate" | "up" | "loraInner"> {
    return {
      rstdInput: this.#vector(`${label} input rstd`, 1),
      q: this.#queries(`${label} q`),
      k: this.#keys(`${label} k`),
      v: this.#keys(`${label} v`),
      attention: this.#queries(`${label} attention`),
      attentionStats: this.#vector(`${label} attention stats`, 2 * this.#config.heads),
      middle: this.hidden(`${label} middle`),
      rstdMiddle: this.#vector(`${label} middle rstd`, 1),
    };
  }

  #mlpPart(label: string): Pick<LayerActivations, "gate" | "up"> {
    const { intermediateSize } = this.#config;
    return { gate: this.#matrix(`${label} gate`, intermediateSize), up: this.#matrix(`${label} up`, intermediateSize) };
  }

  #loraInner(label: string, lora: LoraSettings | null): LayerActivations["loraInner"] {
    const inner: Partial<Record<Projection, Matrix>> = {};
    for (const projection of PROJECTIONS) {
      if (lora?.targetModules.includes(projection)) {
        inner[projection] = this.#matrix(`${label} ${projection} LoRA inner`, lora.r);
      }
    }
    return inner;
  }

  /** @param half workspace of {@link widestFactor} columns, null for the f32 path */
  forwardScratch(half: HalfRows | null): ForwardScratch {
    return {
      half,
      normed: this.hidden("normed"),
      product: half ? null : this.#matrix("gate · up", this.#config.intermediateSize),
    };
  }

  /** @param gradientHalf its rows of {@link widestFactor} columns; null for the f32 path */
  backwardScratch(forward: ForwardScratch, r: number | null, gradientHalf: GradientHalf | null): BackwardScratch {
    const { intermediateSize } = this.#config;
    return {
      ...forward,
      gradientHalf,
      dx: this.hidden("gradient of the residual stream"),
      dNormed: this.hidden("gradient of normed"),
      dProduct: this.#matrix("gradient of gate · up", intermediateSize),
      dGate: this.#matrix("gradient of gate", intermediateSize),
      dUp: this.#matrix("gradient of up", intermediateSize),
      dAttention: this.#queries("gradient of attention"),
      dQ: this.#queries("gradient of q"),
      dK: this.#keys("gradient of k"),
      dV: this.#keys("gradient of v"),
      dLoraInner: r === null ? null : this.#matrix("gradient of LoRA inner", r),
    };
  }

  #queries(label: string): Matrix {
    return this.#matrix(label, this.#config.heads * this.#config.headDim);
  }

  #keys(label: string): Matrix {
    return this.#matrix(label, this.#config.keyValueHeads * this.#config.headDim);
  }

  #matrix(label: string, cols: number): Matrix {
    return createMatrix(this.#gpu, label, this.#tokens, cols);
  }

  #vector(label: string, perToken: number): BufferRange {
    return wholeBuffer(this.#gpu.buffer(label, this.#tokens * perToken * 4));
  }
}
