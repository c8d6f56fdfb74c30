import type { Command } from "../gpu/commands.ts";
import type { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { matmulNN, matmulNT, matmulTN } from "../ops/matmul.ts";
import type { Matrix, Weight } from "../ops/matrix.ts";
import type { HalfRows } from "../ops/tensor.ts";
import type { LoraFactors } from "./lora.ts";

/** A frozen linear layer with its LoRA, where it has one. */
export interface Linear {
  readonly count: RowCount;
  readonly w: Weight;
  readonly lora: LinearLora | null;
  /** Workspace of products on subgroup matrices, for a weight in f16. */
  readonly half: HalfRows | null;
}

export interface LinearLora {
  readonly factors: LoraFactors;
  /** The factor of B·A: `loraScale`. */
  readonly scale: number;
  /** scale · x·Aᵀ: (T, r), written by forward, read by backward. */
  readonly inner: Matrix;
}

/** y = x·Wᵀ + scale · (x·Aᵀ)·Bᵀ (+ residual). */
export function linearForward(gpu: Gpu, linear: Linear, x: Matrix, y: Matrix, residual?: Matrix): Command[] {
  const { count, w, lora, half } = linear;
  if (!lora) return matmulNT(gpu, { count, x, w, y, residual, half });
  const { factors, scale, inner } = lora;
  return [
    ...matmulNT(gpu, { count, x, w: factors.a, y: inner, scale }),
    ...matmulNT(gpu, { count, x, w, y, residual, lora: { u: inner, b: factors.b }, half }),
  ];
}

export interface LinearBackwardBuffers {
  /** The layer's input (T, in), needed only for LoRA's A. */
  readonly x: Matrix;
  /** The gradient of its output (T, out). */
  readonly dy: Matrix;
  /** Where LoRA's gradients are summed; null where the layer has no LoRA. */
  readonly gradients: LoraFactors | null;
  /** Workspace (T, r): scale · dy·B. */
  readonly dInner: Matrix | null;
  /** The gradient of the input (T, in), or null where nothing below is trained. */
  readonly dx: Matrix | null;
  /** Whether `dx` is added to or overwritten. */
  readonly add: boolean;
}

/**
 * Backward of `linearForward`, low rank first so that no (out × in) gradient ever exists:
 * dB += dYᵀ·(s·XAᵀ),  dA += (s·dY·B)ᵀ·X,  dX = dY·W + (s·dY·B)·A.
 */
export function linearBackward(gpu: Gpu, linear: Linear, buffers: LinearBackwardBuffers): Command[] {
  const { count, w, lora, half } = linear;
  const { x, dy, gradients, dInner, dx, add } = buffers;
  const prior = add ? "add" : "drop";
  if (!lora) return dx ? matmulNN(gpu, { count, x: dy, w, y: dx, prior, half }) : [];
  if (!gradients || !dInner) throw new Error("internal: LoRA without buffers for its gradients");
  const { factors, scale, inner } = lora;
  return [
    ...matmulTN(gpu, { count, p: dy, q: inner, y: gradients.b }),
    ...matmulNN(gpu, { count, x: dy, w: factors.b, y: dInner, prior: "drop", scale }),
    ...matmulTN(gpu, { count, p: dInner, q: x, y: gradients.a }),
    ...(dx ? matmulNN(gpu, { count, x: dy, w, y: dx, prior, lora: { u: dInner, a: factors.a }, half }) : []),
  ];
}
