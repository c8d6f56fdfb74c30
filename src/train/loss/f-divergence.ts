import type { FDivergenceType } from "../../config/losses.ts";
import { sigmoid } from "./logistic.ts";

/** TRL caps the exponent of the α-divergence here, so that it stays finite in float32. Past it the slope is 0. */
const MAX_ALPHA_EXPONENT = 80;

/** TRL's width of the α → 1 limit, where (u^(α−1) − 1)/(α − 1) becomes ln u. */
const ALPHA_LIMIT_WIDTH = 1e-6;

/**
 * The score f′(u) of an answer at u = π/π_ref = e^logratio, and its slope with respect to the log-ratio:
 * Wang et al. 2023 (f-DPO), arXiv:2309.16240, with TRL's constants, which cancel in a difference, and TRL's
 * α-divergence, which writes 1 − α for the paper's α: its limit α → 1 is the reverse and α → 0 the forward KL.
 *
 * Below a log-ratio of about −709 the score of `forward_kl` overflows to −Infinity.
 */
export function fDivergenceScore(
  logratio: number,
  type: FDivergenceType,
  alphaCoefficient: number,
): { score: number; slope: number } {
  switch (type) {
    case "reverse_kl": // f′(u) = ln u
      return { score: logratio, slope: 1 };
    case "forward_kl": // f′(u) = 1 − 1/u
      return { score: -Math.expm1(-logratio), slope: Math.exp(-logratio) };
    case "js_divergence": // f′(u) = ln(2u/(1 + u))
      return { score: logMeanRatio(logratio), slope: sigmoid(-logratio) };
    case "alpha_divergence": {
      const power = alphaCoefficient - 1; // f′(u) = (u^(α−1) − 1)/(α − 1)
      if (Math.abs(power) < ALPHA_LIMIT_WIDTH) return { score: logratio, slope: 1 };
      const exponent = power * logratio;
      return {
        score: Math.expm1(Math.min(exponent, MAX_ALPHA_EXPONENT)) / power,
        slope: exponent <= MAX_ALPHA_EXPONENT ? Math.exp(exponent) : 0,
      };
    }
    default:
      throw new Error(`internal: unknown f-divergence ${type satisfies never}`);
  }
}

/** ln(2u/(1 + u)) at u = eˣ, that is ln 2 + ℓ(x), without the cancellation near 0. */
function logMeanRatio(x: number): number {
  return x >= 0 ? -Math.log1p(Math.expm1(-x) / 2) : x - Math.log1p(Math.expm1(x) / 2);
}
