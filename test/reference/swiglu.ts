import type { Numbers } from "../numbers.ts";

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

/** y = silu(g) · u,  silu(g) = g · σ(g)  (Shazeer 2020, equation 6). All (T, I). */
export function swigluForward(gate: Numbers, up: Numbers): Float64Array {
  return Float64Array.from(gate, (g, i) => g * sigmoid(g) * up[i]!);
}

/** dg = dy · u · silu′(g),  silu′(g) = σ(g) + g · σ(g) · (1 − σ(g));  du = dy · silu(g). All (T, I). */
export function swigluBackward(gate: Numbers, up: Numbers, dy: Numbers): { dGate: Float64Array; dUp: Float64Array } {
  return {
    dGate: Float64Array.from(gate, (g, i) => {
      // 1 − σ(g) is σ(−g), without the cancellation.
      const slope = sigmoid(g) + g * sigmoid(g) * sigmoid(-g);
      return dy[i]! * up[i]! * slope;
    }),
    dUp: Float64Array.from(gate, (g, i) => dy[i]! * g * sigmoid(g)),
  };
}
