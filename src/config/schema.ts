import { z } from "zod";
import { isBranch, isRepositoryName } from "../hub/repository-name.ts";
import { F_DIVERGENCE_TYPES, LOSS_TYPES } from "./losses.ts";
import {
  EVAL_STRATEGIES,
  type EvalStrategy,
  EXPORT_DTYPES,
  LR_SCHEDULER_TYPES,
  OPTIMIZERS,
  PROMPT_TEMPLATES,
  PUSHED_PARTS,
  TARGET_MODULES,
  TRACKERS,
  type TrackerName,
} from "./names.ts";
import { SIZE } from "./sizes.ts";
import { list } from "./words.ts";

/**
 * The config: TRL's, transformers' and PEFT's own names, and their defaults (TRL 1.13, transformers 5.18, PEFT 0.21)
 * but where a comment says otherwise. Rules between keys are in rules.ts and effects.ts.
 */

/** What the value of a key must be, in words that complete "beta must be …". */
export const requirements = z.registry<{ requirement: string }>();

function setting<S extends z.ZodType>(schema: S, requirement: string, description: string): S {
  const described = schema.describe(description);
  requirements.add(described, { requirement });
  return described;
}

const COUNT = "a whole number of at least 1";
const count = z.int().min(1);
// The GPU computes in float32: a number that is 0 or infinite there would silently be another setting.
const number = z.number().refine(fitsFloat32, { params: { besides: "that float32 can hold" } });
const ABOVE_0 = "a number above 0";
const above0 = number.gt(0);
const NOT_NEGATIVE = "a number of at least 0";
const notNegative = number.min(0);
const ADAM_BETA = "a number of at least 0 and below 1";
const adamBeta = number
  .min(0)
  .lt(1)
  .refine((beta) => Math.fround(beta) < 1, { params: { besides: "also in float32" } });
const SWITCH = "true or false";
// A path with a control character is a mistake or an attack; the file system refuses NUL anyway, with a worse message.
const path = z
  .string()
  .regex(/\S/)
  .refine((text) => !/\p{Cc}/u.test(text));
const DATASET = "a .jsonl, .json, .csv or .parquet file, a folder of these, or a Hugging Face Hub id";
const name = z
  .string()
  .regex(/\S/)
  .refine((text) => !/\p{Cc}/u.test(text));
const SPLIT = "the name of a split, of letters, digits, _ and .";
const split = z.string().regex(/^\w+(\.\w+)*$/);
const oneOf = (names: readonly string[]) => `one of ${list(names, "or")}`;

function fitsFloat32(value: number): boolean {
  const magnitude = Math.abs(value);
  return value === 0 || (magnitude >= 2 ** -126 && magnitude <= (2 - 2 ** -23) * 2 ** 127);
}

export const loraSchema = z.strictObject({
  r: setting(
    z.int().min(1).max(1024).default(8),
    "a whole number from 1 to 1024",
    "Rank of the adapter: how many directions each projection may learn. 8 to 64 is usual.",
  ),
  lora_alpha: setting(
    above0.default(8),
    ABOVE_0,
    "Scale of the adapter: its product is multiplied by lora_alpha / r. Often equal to r, or twice r.",
  ),
  lora_dropout: setting(
    z.literal(0).default(0),
    "0, as TRL disables dropout in DPO and another value would have no effect",
    "Dropout is off in DPO: model and reference must be the same network.",
  ),
  target_modules: setting(
    z
      .array(z.enum(TARGET_MODULES))
      .min(1)
      .default([...TARGET_MODULES]),
    `a list of one or more of ${list(TARGET_MODULES, "and")}`,
    "The projections that get an adapter.",
  ),
});

const COLUMN = "the name of a column";
const column = z.string().min(1).optional();

export const columnsSchema = z.strictObject({
  prompt: setting(column, COLUMN, "The column that holds the prompt, such as instruction or question."),
  chosen: setting(column, COLUMN, "The column that holds the better answer."),
  rejected: setting(column, COLUMN, "The column that holds the worse answer."),
  system: setting(
    column,
    COLUMN,
    "A column that holds a system message: with a chat template a turn of its own, else text before the prompt.",
  ),
});

export const exportSchema = z.strictObject({
  // On by default: the output folder holds a model that can be used at once.
  merged_16bit: setting(
    z.boolean().default(true),
    SWITCH,
    "Write merged/ after training: the base model with the adapter folded in, as a Hugging Face model folder.",
  ),
  dtype: setting(
    z.enum(EXPORT_DTYPES).default("bfloat16"),
    oneOf(EXPORT_DTYPES),
    "Number format of the merged weights. float16 keeps more of a small update than bfloat16.",
  ),
  // huggingface_hub's default. That of transformers 5, 50GB, makes one file of most models, which is slow to move again.
  max_shard_size: setting(
    z.string().regex(SIZE).default("5GB"),
    "a size such as 5GB or 500MiB",
    "Largest size of one .safetensors file of the merged model.",
  ),
});

const REPOSITORY = "a Hugging Face Hub id as owner/name";
const repository = z.string().refine(isRepositoryName);

export const pushSchema = z.strictObject({
  repo: setting(
    repository.optional(),
    REPOSITORY,
    "Where the trained model is pushed when the run is done; made where there is none. `push_to_hub: owner/name` is short for it.",
  ),
  what: setting(
    z.enum(PUSHED_PARTS).optional(),
    oneOf(PUSHED_PARTS),
    "What is pushed: adapter/ or merged/. Unset: merged where export.merged_16bit is on, else adapter.",
  ),
  // The Hub's default is public. What was public once cannot be taken back.
  private: setting(
    z.boolean().default(true),
    SWITCH,
    "Whether only the owner may see the repository. A public one is pushed to only with false.",
  ),
  revision: setting(
    z.string().refine(isBranch).default("main"),
    "the name of a branch",
    "The branch to push to; made where there is none.",
  ),
  base_model: setting(
    repository.optional(),
    REPOSITORY,
    "Where others find the base, if model is a folder of this machine: an adapter cannot be pushed without it.",
  ),
});

export const configSchema = z.strictObject({
  model: setting(
    path,
    "a model folder or a Hugging Face Hub id",
    "The model to train, and without its adapter the reference.",
  ),
  dataset: setting(
    path,
    DATASET,
    "Preference pairs to train on, as text or as lists of messages. A Hub id may end with @REVISION.",
  ),
  dataset_config: setting(
    name.optional(),
    "the name of a configuration",
    "Of a data set with several configurations: which one; of one without any: which folder. Unset: the default one.",
  ),
  dataset_train_split: setting(
    split.optional(),
    SPLIT,
    "Of a folder or a data set on the Hub: the split to train on. Unset: train.",
  ),
  eval_dataset: setting(
    path.optional(),
    DATASET,
    "Preference pairs to evaluate on; may be the same data set. Instead of test_size.",
  ),
  dataset_test_split: setting(
    split.optional(),
    SPLIT,
    "Of a folder or a data set on the Hub in eval_dataset: the split to evaluate on. Unset: test.",
  ),
  columns: setting(
    columnsSchema.prefault({}),
    "a map of prompt, chosen, rejected and system",
    "What the data calls its columns, where it does not call them prompt, chosen and rejected.",
  ),
  test_size: setting(
    z.number().gt(0).lt(1).optional(),
    "a number above 0 and below 1",
    "Share of the dataset to hold out and evaluate on. Instead of eval_dataset.",
  ),
  max_train_samples: setting(count.optional(), COUNT, "Train on this many rows, the first ones. Unset: on all."),
  prompt_template: setting(
    z.enum(PROMPT_TEMPLATES).default("none"),
    oneOf(PROMPT_TEMPLATES),
    "What is put around a plain text prompt: nothing, Alpaca's instruction text, or the model's chat template.",
  ),
  max_length: setting(
    z.int().min(2).default(1024),
    "a whole number of at least 2",
    "Longest prompt plus answer in tokens. Longer answers are cut at the end; too long prompts are dropped.",
  ),
  lora: setting(
    loraSchema.prefault({}),
    "a map of r, lora_alpha, lora_dropout and target_modules",
    "The LoRA adapter: the only weights that are trained.",
  ),
  init_adapter: setting(
    path.optional(),
    "an adapter folder",
    "Start from the weights of this PEFT adapter. The reference stays the bare base model.",
  ),

  beta: setting(
    above0.default(0.1),
    ABOVE_0,
    "How strongly the model is held to the reference: higher is closer. 0.01 to 0.5 is usual.",
  ),
  loss_type: setting(
    z
      .union([z.enum(LOSS_TYPES), z.array(z.enum(LOSS_TYPES)).min(1)])
      .default("sigmoid")
      .transform((given) => (typeof given === "string" ? [given] : given)),
    `one of, or a list of, ${list(LOSS_TYPES, "or")}`,
    "The loss, or several that are added with loss_weights. sigmoid is DPO as published.",
  ),
  loss_weights: setting(
    z.array(above0).min(1).optional(),
    "a list of numbers above 0",
    "The weight of each loss in loss_type, in the same order. Unset: 1 each.",
  ),
  label_smoothing: setting(
    z.number().min(0).lt(0.5).default(0),
    "a number of at least 0 and below 0.5",
    "Share of pairs assumed to be labelled the wrong way round. With sigmoid this is cDPO (TRL 1.x ignores it there).",
  ),
  f_divergence_type: setting(
    z.enum(F_DIVERGENCE_TYPES).default("reverse_kl"),
    oneOf(F_DIVERGENCE_TYPES),
    "The divergence that holds the model to the reference.",
  ),
  f_alpha_divergence_coef: setting(number.default(0.5), "a number", "The alpha of alpha_divergence."),
  ld_alpha: setting(
    z.number().min(0).max(1).optional(),
    "a number from 0 to 1",
    "LD-DPO: weight of the tokens by which one answer is longer than the other. Unset or 1: all tokens count alike.",
  ),
  discopop_tau: setting(above0.default(0.05), ABOVE_0, "The temperature of discopop."),

  learning_rate: setting(
    above0.default(1e-6),
    ABOVE_0,
    "Highest learning rate. DPO wants far less than fine-tuning: 5e-7 to 5e-6 for a model of billions of parameters.",
  ),
  lr_scheduler_type: setting(
    z.enum(LR_SCHEDULER_TYPES).default("linear"),
    oneOf(LR_SCHEDULER_TYPES),
    "How the learning rate changes after warmup: falling to 0 in a line or a half cosine, or constant.",
  ),
  warmup_steps: setting(
    z.int().min(0).default(0),
    "a whole number of at least 0 (for a share of the run set warmup_ratio)",
    "Optimizer steps over which the learning rate rises from 0. Instead of warmup_ratio.",
  ),
  warmup_ratio: setting(
    z.number().min(0).max(1).optional(),
    "a number from 0 to 1",
    "Warmup as a share of all steps, rounded up. Instead of warmup_steps.",
  ),
  per_device_train_batch_size: setting(
    count.default(8),
    COUNT,
    "Pairs per micro-batch. Times gradient_accumulation_steps: pairs per optimizer step.",
  ),
  per_device_eval_batch_size: setting(
    count.default(8),
    COUNT,
    "Pairs per evaluation batch. Metrics are averaged per batch, then over batches, as TRL does.",
  ),
  gradient_accumulation_steps: setting(count.default(1), COUNT, "Micro-batches per optimizer step."),
  num_train_epochs: setting(above0.default(3), ABOVE_0, "Passes over the data. Instead of max_steps."),
  max_steps: setting(count.optional(), COUNT, "Optimizer steps to train for. Instead of num_train_epochs."),
  // TRL's default keeps two f32 numbers per adapter weight; 8 bits are as good and a quarter of the memory.
  optim: setting(
    z.enum(OPTIMIZERS).default("adamw_8bit"),
    oneOf(OPTIMIZERS),
    "AdamW with its state in 8 bits (as bitsandbytes does it) or in 32.",
  ),
  weight_decay: setting(notNegative.default(0), NOT_NEGATIVE, "Decoupled weight decay of the adapter's weights."),
  adam_beta1: setting(adamBeta.default(0.9), ADAM_BETA, "AdamW's decay rate of the mean gradient."),
  adam_beta2: setting(adamBeta.default(0.999), ADAM_BETA, "AdamW's decay rate of the mean squared gradient."),
  adam_epsilon: setting(above0.default(1e-8), ABOVE_0, "AdamW's guard against division by zero."),
  max_grad_norm: setting(
    notNegative.default(1),
    NOT_NEGATIVE,
    "A gradient with a larger norm is scaled down to this norm. 0: never.",
  ),
  max_tokens_per_batch: setting(
    count.optional(),
    COUNT,
    "Tokens packed into one GPU batch. Changes speed and memory, never the result. Unset: chosen to fit the GPU.",
  ),
  gradient_checkpointing: setting(
    z.boolean().optional(),
    SWITCH,
    "Keep only the inputs of the layers and compute the rest again: less memory, same result. Unset: chosen to fit the GPU.",
  ),
  load_in_4bit: setting(
    z.boolean().default(false),
    SWITCH,
    "Keep the weights of the projections in 4 bits (QLoRA's NF4): a quarter of the memory, and a slightly different base.",
  ),
  reference_cache: setting(
    z.boolean().default(true),
    SWITCH,
    "Keep the reference's log-probabilities on disk, so that the next run on the same model and data need not compute them.",
  ),
  shuffle: setting(z.boolean().default(true), SWITCH, "New order of the pairs in every epoch. false: file order."),
  seed: setting(
    z.int().min(0).max(0xffffffff).default(42),
    "a whole number from 0 to 4294967295",
    "Seed of the adapter's first weights, the order of the pairs, test_size's choice and sampling.",
  ),

  // Resolved when loading: with evaluation data `epoch`, which evaluates at least once, at the end; without it `no`.
  eval_strategy: setting(
    z.enum(EVAL_STRATEGIES).optional(),
    oneOf(EVAL_STRATEGIES),
    "When to evaluate: never, every eval_steps and at the end, or after each epoch. Unset: epoch if there is evaluation data.",
  ),
  eval_steps: setting(
    above0.refine((steps) => steps < 1 || Number.isInteger(steps)).optional(),
    "a whole number of steps, or a share of the run above 0 and below 1",
    "Steps between evaluations; below 1 a share of the run: 0.2 evaluates about five times.",
  ),
  eval_kl: setting(
    z.boolean().default(false),
    SWITCH,
    "Measure in each evaluation the exact KL divergence from the reference, over the whole vocabulary.",
  ),
  // TRL: 10. A record costs nothing here, being read back while the GPU works on, and DPO runs are short.
  logging_steps: setting(count.default(1), COUNT, "Optimizer steps between two records in metrics.jsonl."),
  report_to: setting(
    z
      .union([z.enum(["none", ...TRACKERS]), z.array(z.enum(TRACKERS))])
      .default("none")
      .transform((given): TrackerName[] => (typeof given !== "string" ? given : given === "none" ? [] : [given])),
    `none, or one of, or a list of, ${list(TRACKERS, "or")}`,
    "Experiment trackers to send metrics to, in the background. Their keys are read from the environment or from .env.",
  ),
  // transformers: 500, which in DPO is often more than the run has, so that a crash would cost all of it.
  save_steps: setting(
    above0.refine((steps) => steps < 1 || Number.isInteger(steps)).optional(),
    "a whole number of steps, or a share of the run above 0 and below 1",
    "Steps between checkpoints; below 1 a share of the run. Unset: one a minute. The last step is always saved.",
  ),
  // transformers keeps all.
  save_total_limit: setting(count.default(2), COUNT, "Checkpoints to keep: the newest ones. Older ones are deleted."),
  sample_prompt: setting(
    z.string().regex(/\S/).optional(),
    "text",
    "A prompt that the model answers before and after training, put into prompt_template.",
  ),
  sample_max_new_tokens: setting(count.default(128), COUNT, "Longest answer to sample_prompt in tokens."),
  sample_temperature: setting(
    notNegative.default(0),
    NOT_NEGATIVE,
    "Randomness of the answer to sample_prompt. 0: always the likeliest token, so that two answers differ by training alone.",
  ),
  output_dir: setting(
    path.default("trainer_output"),
    "a folder",
    "Where the adapter, the merged model, the metrics and this config are written.",
  ),
  export: setting(
    exportSchema.prefault({}),
    "a map of merged_16bit, dtype and max_shard_size",
    "What is written after training besides the adapter.",
  ),
  push_to_hub: setting(
    pushSchema.prefault({}),
    `${REPOSITORY}, or a map of repo, what, private, revision and base_model`,
    "Where the trained model is pushed when the run is done.",
  ),
});

export type ParsedConfig = z.output<typeof configSchema>;

/** A config with every default filled in. `loss_type` is always a list. */
export type Config = Omit<ParsedConfig, "eval_strategy"> & { eval_strategy: EvalStrategy };

/** Fills in the one default that depends on other keys. */
export function resolveEvalStrategy(parsed: ParsedConfig): Config {
  const hasEvalData = parsed.eval_dataset !== undefined || parsed.test_size !== undefined;
  return { ...parsed, eval_strategy: parsed.eval_strategy ?? (hasEvalData ? "epoch" : "no") };
}
