/** The values that the named settings of a config may take, as TRL, transformers and PEFT spell them. */

export const LOSS_TYPES = [
  "sigmoid",
  "hinge",
  "ipo",
  "exo_pair",
  "nca_pair",
  "robust",
  "bco_pair",
  "sppo_hard",
  "aot",
  "aot_unpaired",
  "apo_zero",
  "apo_down",
  "discopop",
  "sft",
  "sigmoid_norm",
] as const;
export const F_DIVERGENCE_TYPES = ["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] as const;
export const TARGET_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"] as const;
export const PROMPT_TEMPLATES = ["none", "alpaca", "chat"] as const;
export const LR_SCHEDULER_TYPES = ["linear", "cosine", "constant", "constant_with_warmup"] as const;
export const OPTIMIZERS = ["adamw_8bit", "adamw"] as const;
export const EVAL_STRATEGIES = ["no", "steps", "epoch"] as const;
export const EXPORT_DTYPES = ["bfloat16", "float16", "float32"] as const;

export type LossType = (typeof LOSS_TYPES)[number];
export type FDivergenceType = (typeof F_DIVERGENCE_TYPES)[number];
export type TargetModule = (typeof TARGET_MODULES)[number];
export type PromptTemplate = (typeof PROMPT_TEMPLATES)[number];
export type LrSchedulerType = (typeof LR_SCHEDULER_TYPES)[number];
export type Optimizer = (typeof OPTIMIZERS)[number];
export type EvalStrategy = (typeof EVAL_STRATEGIES)[number];
export type ExportDtype = (typeof EXPORT_DTYPES)[number];
