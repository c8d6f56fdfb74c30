/**
 * Losses of the margin Δ = chosen score − rejected score: only the difference matters, so the partition function
 * cancels and every f-divergence is allowed. Each returns the value and the derivatives with respect to the two scores.
 */

import { logSigmoid, sigmoid, sigmoidSlope, weigh } from "./logistic.ts";
import type { LossParameters, PairLossResult, ScoredPair } from "./types.ts";

/**
 * DPO: −ℓ(βΔ), Rafailov et al. 2023, arXiv:2305.18290, Eq. 7. With label smoothing ε it is conservative DPO (cDPO),
 * −(1 − ε)ℓ(βΔ) − εℓ(−βΔ): Mitchell 2023, ericmitchell.ai/cdpo.pdf, Eq. 3.
 */
export function sigmoidLoss(pair: ScoredPair, { beta, labelSmoothing }: LossParameters): PairLossResult {
  return fromMargin(beta, smoothedLogistic(beta * (pair.chosenScore - pair.rejectedScore), labelSmoothing));
}

/** max(0, 1 − βΔ): SLiC's hinge, Zhao et al. 2023, arXiv:2305.10425, Section 2. The slope at the corner is 0. */
export function hingeLoss(pair: ScoredPair, { beta }: LossParameters): PairLossResult {
  const slack = 1 - beta * (pair.chosenScore - pair.rejectedScore);
  return fromMargin(beta, slack <= 0 ? { value: 0, slope: 0 } : { value: slack, slope: -1 });
}

/**
 * Robust DPO: [−(1 − ε)ℓ(βΔ) + εℓ(−βΔ)]/(1 − 2ε), unbiased when a share ε of the labels is flipped:
 * Chowdhury et al. 2024, arXiv:2403.00409, Section 3.1.
 */
export function robustLoss(pair: ScoredPair, { beta, labelSmoothing }: LossParameters): PairLossResult {
  const x = beta * (pair.chosenScore - pair.rejectedScore);
  const clean = 1 - labelSmoothing;
  const unbiased = 1 - 2 * labelSmoothing;
  return fromMargin(beta, {
    value: (-clean * logSigmoid(x) + weigh(labelSmoothing, logSigmoid(-x))) / unbiased,
    slope: (-clean * sigmoid(-x) - labelSmoothing * sigmoid(x)) / unbiased,
  });
}

/**
 * EXO on pairs: KL between (σ(βΔ), σ(−βΔ)) and (1 − ε, ε): Ji et al. 2024, arXiv:2402.00856, Eq. 16.
 * ℓ(x) − ℓ(−x) = x shortens the derivative to σ′(x)·(x − ln((1 − ε)/ε)).
 */
export function exoPairLoss(pair: ScoredPair, { beta, labelSmoothing }: LossParameters): PairLossResult {
  const x = beta * (pair.chosenScore - pair.rejectedScore);
  const logClean = Math.log1p(-labelSmoothing);
  const logFlipped = Math.log(labelSmoothing);
  return fromMargin(beta, {
    value: weigh(sigmoid(x), logSigmoid(x) - logClean) + weigh(sigmoid(-x), logSigmoid(-x) - logFlipped),
    slope: weigh(sigmoidSlope(x), x - logClean + logFlipped),
  });
}

/**
 * DiscoPOP: −ℓ(x)(1 − m) + e⁻ˣm with x = βΔ and m = σ(x/τ): Lu et al. 2024, arXiv:2406.08414, Eq. 5.
 * e⁻ˣm is taken as one exponential: for τ < 1 it vanishes where e⁻ˣ alone overflows.
 */
export function discopopLoss(pair: ScoredPair, { beta, discopopTau }: LossParameters): PairLossResult {
  const x = beta * (pair.chosenScore - pair.rejectedScore);
  const logistic = -logSigmoid(x);
  const logisticShare = sigmoid(-x / discopopTau);
  const exponential = Math.exp(logSigmoid(x / discopopTau) - x);
  return fromMargin(beta, {
    value: weigh(logisticShare, logistic) + exponential,
    slope:
      -sigmoid(-x) * logisticShare -
      weigh(sigmoidSlope(x / discopopTau) / discopopTau, logistic) +
      exponential * (logisticShare / discopopTau - 1),
  });
}

/**
 * IPO: (chosen/n_c − rejected/n_r − 1/(2β))²: Azar et al. 2023, arXiv:2310.12036, Eq. 17 with β for τ. The scores are
 * per token, n being the completion's length, as TRL has it on its authors' word.
 */
export function ipoLoss(pair: ScoredPair, { beta }: LossParameters): PairLossResult {
  const error = lengthNormalizedMargin(pair) - 1 / (2 * beta);
  return {
    value: error * error,
    gradChosen: (2 * error) / pair.chosenLength,
    gradRejected: (-2 * error) / pair.rejectedLength,
  };
}

/** Length-normalized DPO: −ℓ(β(chosen/n_c − rejected/n_r)): Lambert et al. 2024 (Tülu 3), arXiv:2411.15124. */
export function sigmoidNormLoss(pair: ScoredPair, { beta }: LossParameters): PairLossResult {
  const { value, slope } = smoothedLogistic(beta * lengthNormalizedMargin(pair), 0);
  return {
    value,
    gradChosen: (beta * slope) / pair.chosenLength,
    gradRejected: (-beta * slope) / pair.rejectedLength,
  };
}

/** −(1 − ε)ℓ(x) − εℓ(−x) and its slope, shared by DPO, cDPO and AOT. */
export function smoothedLogistic(x: number, labelSmoothing: number): { value: number; slope: number } {
  const clean = 1 - labelSmoothing;
  return {
    value: -clean * logSigmoid(x) - weigh(labelSmoothing, logSigmoid(-x)),
    slope: -clean * sigmoid(-x) + labelSmoothing * sigmoid(x),
  };
}

function lengthNormalizedMargin(pair: ScoredPair): number {
  return pair.chosenScore / pair.chosenLength - pair.rejectedScore / pair.rejectedLength;
}

/** The derivatives with respect to the scores of a function of x = β(chosen − rejected) with the given slope. */
function fromMargin(beta: number, { value, slope }: { value: number; slope: number }): PairLossResult {
  return { value, gradChosen: beta * slope, gradRejected: -beta * slope };
}
