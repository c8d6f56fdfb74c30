/**
 * The loss of a micro-batch of preference pairs, on the host in float64: what goes in, what comes out, and the shape of
 * one loss. Nothing here knows of models, tokens or the GPU.
 */

/**
 * The pairs of one micro-batch, n of them; every array has length n. Log-probabilities are in nats and summed over the
 * completion tokens; with LD-DPO the four sums are weighted by `ldWeights`, and `chosenTokenLogps` is not.
 */
export type PreferenceBatch = {
  chosenLogps: Float64Array;
  rejectedLogps: Float64Array;
  refChosenLogps: Float64Array;
  refRejectedLogps: Float64Array;
  /** Completion tokens, at least 1 each: counted, never weighted. */
  chosenLengths: Float64Array;
  rejectedLengths: Float64Array;
  /** Unweighted sum of the chosen answer's log-probabilities: what `sft` reads. */
  chosenTokenLogps: Float64Array;
};

/** The loss of a micro-batch and its gradient; every array has length n. */
export type LossResult = {
  /** Each loss's mean over the pairs, weighted and added. */
  loss: number;
  /** ∂loss/∂chosenLogps. A completion token's own gradient is this times its LD weight, plus `gradChosenTokens`. */
  gradChosen: Float64Array;
  /** ∂loss/∂rejectedLogps. */
  gradRejected: Float64Array;
  /** ∂loss/∂chosenTokenLogps: zero but for `sft`. */
  gradChosenTokens: Float64Array;
};

/** What a loss may depend on besides the log-probabilities. */
export type LossParameters = {
  /** β (τ in IPO), above 0. */
  beta: number;
  /** ε: the probability that a label is flipped. */
  labelSmoothing: number;
  /** τ of DiscoPOP's blend, above 0. */
  discopopTau: number;
};

/**
 * One pair as a loss sees it. A score is f′(π/π_ref) of an answer; under the reverse KL divergence, which is standard
 * DPO, it is the log-ratio log π − log π_ref.
 */
export type ScoredPair = {
  chosenScore: number;
  rejectedScore: number;
  chosenLength: number;
  rejectedLength: number;
};

/** The value of a loss on one pair and its derivatives with respect to the two scores. */
export type PairLossResult = { value: number; gradChosen: number; gradRejected: number };

/** A loss that treats every pair on its own; its mean over the micro-batch is taken outside. */
export type PairLoss = (pair: ScoredPair, parameters: LossParameters) => PairLossResult;

/** A loss of the micro-batch as a whole: the same as a `LossResult` before weighting. */
export type BatchLoss = (batch: PreferenceBatch, parameters: LossParameters) => LossResult;
