import type { LossType } from "../../config/losses.ts";
import { apoDownLoss, apoZeroLoss, bcoPairLoss, ncaPairLoss, sppoHardLoss } from "./anchored.ts";
import { aotLoss, aotUnpairedLoss } from "./aot.ts";
import { discopopLoss, exoPairLoss, hingeLoss, ipoLoss, robustLoss, sigmoidLoss, sigmoidNormLoss } from "./margin.ts";
import { sftLoss } from "./sft.ts";
import type { BatchLoss, PairLoss } from "./types.ts";

/** A loss: of each pair by itself, or of a micro-batch whose pairs it couples. */
export type LossEntry = { readonly pair: PairLoss } | { readonly batch: BatchLoss };

/** Every loss by its name in TRL's `loss_type`. A new loss is a function, a row here and one in config/losses.ts. */
export const LOSSES: Readonly<Record<LossType, LossEntry>> = {
  sigmoid: { pair: sigmoidLoss },
  hinge: { pair: hingeLoss },
  ipo: { pair: ipoLoss },
  exo_pair: { pair: exoPairLoss },
  nca_pair: { pair: ncaPairLoss },
  robust: { pair: robustLoss },
  bco_pair: { pair: bcoPairLoss },
  sppo_hard: { pair: sppoHardLoss },
  aot: { batch: aotLoss },
  aot_unpaired: { batch: aotUnpairedLoss },
  apo_zero: { pair: apoZeroLoss },
  apo_down: { pair: apoDownLoss },
  discopop: { pair: discopopLoss },
  sft: { batch: sftLoss },
  sigmoid_norm: { pair: sigmoidNormLoss },
};

/**
 * Whether a micro-batch's loss is more than the mean of its pairs' losses, so that the micro-batch has to be computed as
 * a whole: `aot` and `aot_unpaired` sort its log-probabilities, `sft` divides by its number of chosen tokens.
 */
export function couplesPairs(lossTypes: readonly LossType[]): boolean {
  return lossTypes.some((type) => "batch" in LOSSES[type]);
}
