import type { Work } from "../gpu/commands.ts";
import type { AttentionForward } from "./attention.ts";
import { type Matrix, rowWork } from "./matrix.ts";

/**
 * Work of a kernel of attention that takes so many products of headDim over every visible score of every query head:
 * forward 2 (q·kᵀ and p·v), the gradient of q 3, those of k and v 4. `matrices` are read or written once each.
 *
 * @returns null where the op does not know its scores
 */
export function attentionWork(
  { count, shape, scores }: AttentionForward,
  products: number,
  ...matrices: readonly Matrix[]
): (() => Work) | null {
  if (!scores) return null;
  const moved = rowWork(count, ...matrices);
  return () => ({ flops: 2 * products * shape.headDim * shape.heads * scores(), bytes: moved().bytes });
}
