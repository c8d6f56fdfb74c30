import { PROJECTIONS } from "../weights/projections.ts";

/** The values that the named settings of a config may take, as TRL, transformers and PEFT spell them. */

export const TARGET_MODULES = PROJECTIONS;
export const PROMPT_TEMPLATES = ["none", "alpaca", "chat"] as const;
export const LR_SCHEDULER_TYPES = ["linear", "cosine", "constant", "constant_with_warmup"] as const;
export const OPTIMIZERS = ["adamw_8bit", "adamw"] as const;
export const EVAL_STRATEGIES = ["no", "steps", "epoch"] as const;
export const EXPORT_DTYPES = ["bfloat16", "float16", "float32"] as const;
export const PUSHED_PARTS = ["adapter", "merged"] as const;
export const TRACKERS = ["tensorboard", "comet_ml", "wandb", "mlflow"] as const;

export type PromptTemplate = (typeof PROMPT_TEMPLATES)[number];
export type LrSchedulerType = (typeof LR_SCHEDULER_TYPES)[number];
export type Optimizer = (typeof OPTIMIZERS)[number];
export type EvalStrategy = (typeof EVAL_STRATEGIES)[number];
export type ExportDtype = (typeof EXPORT_DTYPES)[number];
export type PushedPart = (typeof PUSHED_PARTS)[number];
export type TrackerName = (typeof TRACKERS)[number];
