import type { Numbers } from "../numbers.ts";

export interface AdamWSettings {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
  readonly learningRate: number;
  /** Whether the update is decayed with the parameter, as bitsandbytes does, or the parameter alone, as PyTorch does. */
  readonly decayLast: boolean;
}

/** A tensor in training. */
export interface AdamWState {
  readonly parameter: Float64Array;
  readonly firstMoment: Float64Array;
  readonly secondMoment: Float64Array;
}

/** The L2 norm of all gradients together. */
export function globalNorm(gradients: readonly Numbers[]): number {
  let squares = 0;
  for (const gradient of gradients) for (let i = 0; i < gradient.length; i++) squares += gradient[i]! ** 2;
  return Math.sqrt(squares);
}

/** What gradients of this norm are multiplied by, as torch.nn.utils.clip_grad_norm_. `maxNorm` 0: no clipping. */
export function clipScale(norm: number, maxNorm: number): number {
  return maxNorm > 0 ? Math.min(1, maxNorm / (norm + 1e-6)) : 1;
}

/** Step t ≥ 1 of AdamW in place (Loshchilov and Hutter 2019, algorithm 2). */
export function adamW(state: AdamWState, gradient: Numbers, t: number, settings: AdamWSettings): void {
  const { beta1, beta2, epsilon, weightDecay, learningRate, decayLast } = settings;
  const { parameter, firstMoment, secondMoment } = state;
  const decay = 1 - learningRate * weightDecay;
  for (let i = 0; i < parameter.length; i++) {
    firstMoment[i] = beta1 * firstMoment[i]! + (1 - beta1) * gradient[i]!;
    secondMoment[i] = beta2 * secondMoment[i]! + (1 - beta2) * gradient[i]! ** 2;
    const m = firstMoment[i]! / (1 - beta1 ** t);
    const v = secondMoment[i]! / (1 - beta2 ** t);
    const update = (learningRate * m) / (Math.sqrt(v) + epsilon);
    parameter[i] = decayLast ? (parameter[i]! - update) * decay : parameter[i]! * decay - update;
  }
}

/** Elements that share one absmax in 8-bit states. */
export const BLOCK_ELEMENTS = 256;

/** The largest magnitude of each block. */
export function blockAbsmax(values: Numbers): Float64Array {
  const largest = new Float64Array(Math.ceil(values.length / BLOCK_ELEMENTS));
  for (let e = 0; e < values.length; e++) {
    const block = Math.floor(e / BLOCK_ELEMENTS);
    largest[block] = Math.max(largest[block]!, Math.abs(values[e]!));
  }
  return largest;
}

/**
 * The byte whose entry of the ascending map is nearest to x among those of x's sign, 0 counting as positive: bitsandbytes
 * corrects a code that would change the sign. The map holds 0 and, if it is signed, negative entries.
 */
export function nearestCode(map: Numbers, x: number): number {
  let [low, high] = [0, map.length - 1]; // map[low] ≤ x < map[high], as far as the map reaches
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (map[middle]! <= x) low = middle;
    else high = middle;
  }
  const nearest = x - map[low]! <= map[high]! - x ? low : high;
  if (x < 0 && map[nearest]! >= 0) return nearest - 1;
  if (x >= 0 && map[nearest]! < 0) return nearest + 1;
  return nearest;
}
