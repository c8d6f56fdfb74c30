import { apoDownLoss, apoZeroLoss, bcoPairLoss, ncaPairLoss, sppoHardLoss } from "./anchored.ts";
import { aotLoss, aotUnpairedLoss } from "./aot.ts";
import { discopopLoss, exoPairLoss, hingeLoss, ipoLoss, robustLoss, sigmoidLoss, sigmoidNormLoss } from "./margin.ts";
import { sftLoss } from "./sft.ts";
import type { BatchLoss, PairLoss } from "./types.ts";

/**
 * One row of the table of losses.
 * - `pair` or `batch`: the function; a `batch` loss couples the pairs of a micro-batch.
 * - `labelSmoothing`: whether ε has no meaning here, may be set (0 ≤ ε < ½), or must be (0 < ε < ½).
 * - `fDivergence`: whether the loss is defined for other divergences than the reverse KL.
 */
export type LossEntry = ({ pair: PairLoss } | { batch: BatchLoss }) & {
  labelSmoothing: "none" | "optional" | "required";
  fDivergence: boolean;
};

/** Every loss by its name in TRL's `loss_type`. A new loss is a function and a row here. */
export const LOSSES = {
  sigmoid: { pair: sigmoidLoss, labelSmoothing: "optional", fDivergence: true },
  hinge: { pair: hingeLoss, labelSmoothing: "none", fDivergence: true },
  ipo: { pair: ipoLoss, labelSmoothing: "none", fDivergence: true },
  exo_pair: { pair: exoPairLoss, labelSmoothing: "required", fDivergence: true },
  nca_pair: { pair: ncaPairLoss, labelSmoothing: "none", fDivergence: false },
  robust: { pair: robustLoss, labelSmoothing: "optional", fDivergence: true },
  bco_pair: { pair: bcoPairLoss, labelSmoothing: "none", fDivergence: false },
  sppo_hard: { pair: sppoHardLoss, labelSmoothing: "none", fDivergence: false },
  aot: { batch: aotLoss, labelSmoothing: "optional", fDivergence: false },
  aot_unpaired: { batch: aotUnpairedLoss, labelSmoothing: "optional", fDivergence: false },
  apo_zero: { pair: apoZeroLoss, labelSmoothing: "none", fDivergence: false },
  apo_down: { pair: apoDownLoss, labelSmoothing: "none", fDivergence: false },
  discopop: { pair: discopopLoss, labelSmoothing: "none", fDivergence: true },
  sft: { batch: sftLoss, labelSmoothing: "none", fDivergence: true },
  sigmoid_norm: { pair: sigmoidNormLoss, labelSmoothing: "none", fDivergence: true },
} as const satisfies Record<string, LossEntry>;

export type LossType = keyof typeof LOSSES;
