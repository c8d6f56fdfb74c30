import { MERGE_SUMS } from "../ops/merge.ts";

/**
 * Sums over elements of merged weights, in float64: Δ is the update, c = round(W + Δ) − round(W) what arrived of it, and
 * c₁₆ the same where both are rounded to float16.
 */
export interface MergeSums {
  elements: number;
  /** Σ Δ² */
  updateSquares: number;
  /** Σ c·Δ */
  arrivedUpdate: number;
  /** Σ (c − Δ)² */
  lostSquares: number;
  /** Σ W² */
  weightSquares: number;
  /** Σ c₁₆·Δ */
  arrivedUpdate16: number;
  /** Σ (c₁₆ − Δ)² */
  lostSquares16: number;
  /** Elements with c ≠ 0. */
  changed: number;
  /** Merged elements that are NaN or infinite. */
  notFinite: number;
}

export function noSums(): MergeSums {
  return {
    elements: 0,
    updateSquares: 0,
    arrivedUpdate: 0,
    lostSquares: 0,
    weightSquares: 0,
    arrivedUpdate16: 0,
    lostSquares16: 0,
    changed: 0,
    notFinite: 0,
  };
}

export function addSums(total: MergeSums, part: MergeSums): void {
  for (const key of Object.keys(part) as (keyof MergeSums)[]) total[key] += part[key];
}

/** Adds what each workgroup of `kernels/export/merge.wgsl` left, (workgroups, 8) f32, for updates multiplied by `unit`. */
export function addPartialSums(total: MergeSums, partials: Float32Array, unit: number, elements: number): void {
  const sums = new Float64Array(MERGE_SUMS);
  for (let i = 0; i < partials.length; i++) sums[i % MERGE_SUMS]! += partials[i]!;
  const [updates, arrived, lost, weights, arrived16, lost16, changed, notFinite] = sums as unknown as EightNumbers;
  const square = unit * unit;
  addSums(total, {
    elements,
    updateSquares: updates / square,
    arrivedUpdate: arrived / square,
    lostSquares: lost / square,
    weightSquares: weights,
    arrivedUpdate16: arrived16 / square,
    lostSquares16: lost16 / square,
    changed,
    notFinite,
  });
}

type EightNumbers = [number, number, number, number, number, number, number, number];
