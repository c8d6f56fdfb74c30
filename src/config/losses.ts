/** The losses by TRL's `loss_type`, and which of the other settings of a loss each of them reads. */

interface LossTraits {
  /** Whether ε has no meaning here, may be set (0 ≤ ε < ½), or must be (0 < ε < ½). */
  readonly labelSmoothing: "none" | "optional" | "required";
  /** Whether TRL defines it for other divergences than the reverse KL. `sft` is one: it reads no scores at all. */
  readonly fDivergence: boolean;
}

const TRAITS = {
  sigmoid: { labelSmoothing: "optional", fDivergence: true },
  hinge: { labelSmoothing: "none", fDivergence: true },
  ipo: { labelSmoothing: "none", fDivergence: true },
  exo_pair: { labelSmoothing: "required", fDivergence: true },
  nca_pair: { labelSmoothing: "none", fDivergence: false },
  robust: { labelSmoothing: "optional", fDivergence: true },
  bco_pair: { labelSmoothing: "none", fDivergence: false },
  sppo_hard: { labelSmoothing: "none", fDivergence: false },
  aot: { labelSmoothing: "optional", fDivergence: false },
  aot_unpaired: { labelSmoothing: "optional", fDivergence: false },
  apo_zero: { labelSmoothing: "none", fDivergence: false },
  apo_down: { labelSmoothing: "none", fDivergence: false },
  discopop: { labelSmoothing: "none", fDivergence: true },
  sft: { labelSmoothing: "none", fDivergence: true },
  sigmoid_norm: { labelSmoothing: "none", fDivergence: true },
} as const satisfies Record<string, LossTraits>;

export type LossType = keyof typeof TRAITS;

export const LOSS_TYPES = Object.keys(TRAITS) as LossType[];

/** The losses that read `label_smoothing`. */
export const LABEL_SMOOTHING_LOSS_TYPES = typesWith(({ labelSmoothing }) => labelSmoothing !== "none");

/** The losses that need `label_smoothing` above 0. */
export const LABEL_SMOOTHING_REQUIRED_LOSS_TYPES = typesWith(({ labelSmoothing }) => labelSmoothing === "required");

/** The losses that any `f_divergence_type` may be combined with. */
export const F_DIVERGENCE_LOSS_TYPES = typesWith(({ fDivergence }) => fDivergence);

/** The divergences that may hold the policy near the reference; `reverse_kl` is standard DPO. */
export const F_DIVERGENCE_TYPES = ["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] as const;

export type FDivergenceType = (typeof F_DIVERGENCE_TYPES)[number];

function typesWith(trait: (traits: LossTraits) => boolean): LossType[] {
  return LOSS_TYPES.filter((type) => trait(TRAITS[type]));
}
