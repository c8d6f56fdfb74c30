import type { Command } from "../gpu/commands.ts";
import type { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { swigluForward } from "../ops/elementwise.ts";
import { type HalfRows, type PackedRows, packRows, packSwiglu } from "../ops/half-rows.ts";
import { matmulNN, matmulNT, matmulTN } from "../ops/matmul.ts";
import type { Matrix, Weight } from "../ops/matrix.ts";
import { dequantizeNf4 } from "../ops/nf4.ts";
import { type GradientWorkspace, tensorGradient } from "../ops/tensor-gradient.ts";
import type { ProjectionWeight } from "./base-weights.ts";
import type { LoraFactors } from "./lora.ts";

/** A frozen linear layer with its LoRA, where it has one. */
export interface Linear {
  readonly count: RowCount;
  readonly w: ProjectionWeight;
  readonly lora: LinearLora | null;
}

/** A weight for the product that follows, and the commands that unpack it where it is in 4 bits. */
function unpack(gpu: Gpu, w: ProjectionWeight): { readonly unpacking: Command[]; readonly weight: Weight } {
  if ("parts" in w) return { unpacking: [], weight: w };
  return { unpacking: dequantizeNf4(gpu, w.nf4, w.unpacked), weight: w.unpacked };
}

/** A matrix that is multiplied by weights: in f32, and in f16 where that is done on subgroup matrices. */
export interface Operand {
  /** Null where it is there in f16 alone. */
  readonly matrix: Matrix | null;
  readonly packed: PackedRows | null;
}

/** An operand that is there in f32 too. */
export type MatrixOperand = Operand & { readonly matrix: Matrix };

/**
 * A matrix as an operand, and the commands that make it one: to be run whenever the matrix has been written anew, and
 * before the workspace `half` takes another. Null for the f32 path, where there is nothing to make.
 */
export function operandOf(
  gpu: Gpu,
  count: RowCount,
  matrix: Matrix,
  half: HalfRows | null,
): { readonly pack: Command[]; readonly operand: MatrixOperand } {
  if (!half) return { pack: [], operand: { matrix, packed: null } };
  const { pack, packed } = packRows(gpu, count, matrix, half);
  return { pack: [pack], operand: { matrix, packed } };
}

/** silu(gate) · up as an operand: in `product`, or where there is a workspace `half` in that alone. */
export function productOf(
  gpu: Gpu,
  count: RowCount,
  { gate, up }: { readonly gate: Matrix; readonly up: Matrix },
  { product, half }: { readonly product: Matrix | null; readonly half: HalfRows | null },
): { readonly pack: Command[]; readonly operand: Operand } {
  if (half) {
    const { pack, packed } = packSwiglu(gpu, count, gate, up, half);
    return { pack: [pack], operand: { matrix: null, packed } };
  }
  if (!product) throw new Error("internal: neither a matrix for SwiGLU's product nor a workspace");
  return { pack: swigluForward(gpu, { count, gate, up, y: product }), operand: { matrix: product, packed: null } };
}

export interface LinearLora {
  readonly factors: LoraFactors;
  /** The factor of B·A: `loraScale`. */
  readonly scale: number;
  /** scale · x·Aᵀ: (T, r), written by forward, read by backward. */
  readonly inner: Matrix;
}

/** y = x·Wᵀ + scale · (x·Aᵀ)·Bᵀ (+ residual). */
export function linearForward(gpu: Gpu, linear: Linear, x: Operand, y: Matrix, residual?: Matrix): Command[] {
  const { count, lora } = linear;
  const input = { count, x: x.matrix, packed: x.packed };
  const { unpacking, weight: w } = unpack(gpu, linear.w);
  if (!lora) return [...unpacking, ...matmulNT(gpu, { ...input, w, y, residual })];
  const { factors, scale, inner } = lora;
  return [
    ...matmulNT(gpu, { ...input, w: factors.a, y: inner, scale }),
    ...unpacking,
    ...matmulNT(gpu, { ...input, w, y, residual, lora: { u: inner, b: factors.b } }),
  ];
}

export interface LinearBackwardBuffers {
  /** The layer's input (T, in), needed only for LoRA's A. */
  readonly x: Operand;
  /** The gradient of its output (T, out). */
  readonly dy: MatrixOperand;
  /** Where LoRA's gradients are summed; null where the layer has no LoRA. */
  readonly gradients: LoraFactors | null;
  /** Workspace (T, r): scale · dy·B. */
  readonly dInner: Matrix | null;
  /** For LoRA's gradients on subgroup matrices; null on the f32 path. */
  readonly workspace: GradientWorkspace | null;
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
  const { count, lora } = linear;
  const { x, dy, gradients, dInner, workspace, dx, add } = buffers;
  const prior = add ? "add" : "drop";
  const gradient = { count, x: dy.matrix, packed: dy.packed };
  const { unpacking, weight: w } = unpack(gpu, linear.w);
  if (!lora) return dx ? [...unpacking, ...matmulNN(gpu, { ...gradient, w, y: dx, prior })] : [];
  if (!gradients || !dInner) throw new Error("internal: LoRA without buffers for its gradients");
  const { factors, scale, inner } = lora;
  return [
    ...factorGradient(gpu, { count, wide: dy, narrow: inner, narrowIsLeft: false, y: gradients.b, workspace }),
    ...matmulNN(gpu, { ...gradient, w: factors.b, y: dInner, prior: "drop", scale }),
    ...factorGradient(gpu, { count, wide: x, narrow: dInner, narrowIsLeft: true, y: gradients.a, workspace }),
    ...(dx
      ? [...unpacking, ...matmulNN(gpu, { ...gradient, w, y: dx, prior, lora: { u: dInner, a: factors.a } })]
      : []),
  ];
}

interface FactorGradient {
  readonly count: RowCount;
  /** (T, in) or (T, out), and (T, r). */
  readonly wide: Operand;
  readonly narrow: Matrix;
  /** Whether y += narrowᵀ·wide, else y += wideᵀ·narrow. */
  readonly narrowIsLeft: boolean;
  readonly y: Matrix;
  readonly workspace: GradientWorkspace | null;
}

function factorGradient(gpu: Gpu, { wide, workspace, ...gradient }: FactorGradient): Command[] {
  if (wide.packed && workspace) return tensorGradient(gpu, { ...gradient, wide: wide.packed, workspace });
  const { count, narrow, narrowIsLeft, y } = gradient;
  if (!wide.matrix) throw new Error("internal: a factor's gradient in f32 of a matrix that is there in f16 alone");
  const [p, q] = narrowIsLeft ? [narrow, wide.matrix] : [wide.matrix, narrow];
  return matmulTN(gpu, { count, p, q, y });
}
