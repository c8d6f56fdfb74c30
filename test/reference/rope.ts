import type { Rope } from "../../src/weights/llama-config.ts";
import type { Numbers } from "../numbers.ts";

/** (cos, sin) of a position's angle for pair d of a head. */
export type Turn = (position: number, d: number) => { cos: number; sin: number };

/** θ^(−2d/D) (Su et al. 2021, section 3.2.2), with Llama 3.1's blend of kept and stretched wavelengths. */
export function inverseFrequency(d: number, headDim: number, { theta, scaling }: Rope): number {
  const frequency = theta ** ((-2 * d) / headDim);
  if (scaling === null) return frequency;
  const { factor, lowFreqFactor: low, highFreqFactor: high, originalMaxPositionEmbeddings: context } = scaling;
  const turnsInContext = (context * frequency) / (2 * Math.PI);
  const share = Math.min(1, Math.max(0, (turnsInContext - low) / (high - low)));
  return share * frequency + ((1 - share) * frequency) / factor;
}

export function exactTurn(headDim: number, rope: Rope): Turn {
  return (position, d) => {
    const angle = position * inverseFrequency(d, headDim, rope);
    return { cos: Math.cos(angle), sin: Math.sin(angle) };
  };
}

/**
 * Each pair (x_d, x_{d+D/2}) of each head turned by its position's angle: Su et al. 2021, equation 34, with the pairs as
 * Hugging Face lays them out. `direction` −1 turns back, which is the gradient. x (T, heads · D).
 */
export function rope(x: Numbers, positions: Numbers, headDim: number, turn: Turn, direction: 1 | -1): Float64Array {
  const y = new Float64Array(x.length);
  const half = headDim / 2;
  const heads = x.length / positions.length / headDim;
  for (let t = 0; t < positions.length; t++) {
    for (let head = 0; head < heads; head++) {
      for (let d = 0; d < half; d++) {
        const { cos, sin } = turn(positions[t]!, d);
        const at = (t * heads + head) * headDim + d;
        y[at] = x[at]! * cos - direction * x[at + half]! * sin;
        y[at + half] = x[at + half]! * cos + direction * x[at]! * sin;
      }
    }
  }
  return y;
}
