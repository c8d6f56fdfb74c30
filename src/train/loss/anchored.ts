/**
 * Losses that hold each answer against the reference by itself. They read log-ratios, not f-divergence scores: the
 * partition function cancels only in a difference. a and r are the chosen and the rejected log-ratio.
 */

import { logSigmoid, sigmoid, sigmoidSlope } from "./logistic.ts";
import type { LossParameters, PairLossResult, ScoredPair } from "./types.ts";

/** NCA on pairs: −ℓ(βa) − ½ℓ(−βa) − ½ℓ(−βr): Chen et al. 2024, arXiv:2402.05369, Section 4.1. */
export function ncaPairLoss({ chosenScore, rejectedScore }: ScoredPair, { beta }: LossParameters): PairLossResult {
  const chosenReward = beta * chosenScore;
  const rejectedReward = beta * rejectedScore;
  return {
    value: -logSigmoid(chosenReward) - 0.5 * logSigmoid(-chosenReward) - 0.5 * logSigmoid(-rejectedReward),
    gradChosen: beta * (0.5 * sigmoid(chosenReward) - sigmoid(-chosenReward)),
    gradRejected: beta * 0.5 * sigmoid(rejectedReward),
  };
}

/**
 * BCO on pairs: −ℓ(βa) − ℓ(−βr), the binary classifier that bounds DPO: Jung et al. 2024, arXiv:2404.04656, Theorem 1.
 * Like TRL's `bco_pair` it has no reward shift.
 */
export function bcoPairLoss({ chosenScore, rejectedScore }: ScoredPair, { beta }: LossParameters): PairLossResult {
  return {
    value: -logSigmoid(beta * chosenScore) - logSigmoid(-beta * rejectedScore),
    gradChosen: -beta * sigmoid(-beta * chosenScore),
    gradRejected: beta * sigmoid(beta * rejectedScore),
  };
}

/**
 * SPPO: (a − 1/(2β))² + (r + 1/(2β))²: Wu et al. 2024, arXiv:2405.00675, Eq. 4.7 with hard probabilities, 1 for the
 * chosen and 0 for the rejected answer.
 */
export function sppoHardLoss({ chosenScore, rejectedScore }: ScoredPair, { beta }: LossParameters): PairLossResult {
  const chosenError = chosenScore - 0.5 / beta;
  const rejectedError = rejectedScore + 0.5 / beta;
  return {
    value: chosenError * chosenError + rejectedError * rejectedError,
    gradChosen: 2 * chosenError,
    gradRejected: 2 * rejectedError,
  };
}

/** APO-zero: 1 − σ(βa) + σ(βr): D'Oosterlinck et al. 2024, arXiv:2408.06266, Eq. 7. */
export function apoZeroLoss({ chosenScore, rejectedScore }: ScoredPair, { beta }: LossParameters): PairLossResult {
  return {
    value: sigmoid(-beta * chosenScore) + sigmoid(beta * rejectedScore),
    gradChosen: -beta * sigmoidSlope(beta * chosenScore),
    gradRejected: beta * sigmoidSlope(beta * rejectedScore),
  };
}

/** APO-down: σ(βa) + 1 − σ(β(a − r)): D'Oosterlinck et al. 2024, arXiv:2408.06266, Eq. 8. */
export function apoDownLoss({ chosenScore, rejectedScore }: ScoredPair, { beta }: LossParameters): PairLossResult {
  const chosenReward = beta * chosenScore;
  const margin = beta * (chosenScore - rejectedScore);
  return {
    value: sigmoid(chosenReward) + sigmoid(-margin),
    gradChosen: beta * (sigmoidSlope(chosenReward) - sigmoidSlope(margin)),
    gradRejected: beta * sigmoidSlope(margin),
  };
}
