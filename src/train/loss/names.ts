/** The names of the losses and what each of them reads, drawn from the table, for a config schema to check against. */

import { LOSSES, type LossEntry, type LossType } from "./table.ts";

export { F_DIVERGENCE_TYPES, type FDivergenceType } from "./f-divergence.ts";
export type { LossType } from "./table.ts";

export const LOSS_TYPES = Object.keys(LOSSES) as LossType[];

/** The losses that read `label_smoothing`. */
export const LABEL_SMOOTHING_LOSS_TYPES = namesWhere((loss) => loss.labelSmoothing !== "none");

/** The losses that need `label_smoothing` above 0. */
export const LABEL_SMOOTHING_REQUIRED_LOSS_TYPES = namesWhere((loss) => loss.labelSmoothing === "required");

/** The losses that any `f_divergence_type` may be combined with. `sft` is one: it reads no scores at all. */
export const F_DIVERGENCE_LOSS_TYPES = namesWhere((loss) => loss.fDivergence);

/**
 * Whether a micro-batch's loss is more than the mean of its pairs' losses, so that the micro-batch has to be computed as
 * a whole: `aot` and `aot_unpaired` sort its log-probabilities, `sft` divides by its number of chosen tokens.
 */
export function couplesPairs(lossTypes: readonly LossType[]): boolean {
  return lossTypes.some((type) => "batch" in LOSSES[type]);
}

function namesWhere(property: (loss: LossEntry) => boolean): LossType[] {
  return LOSS_TYPES.filter((type) => property(LOSSES[type]));
}
