import { type SettingKey, settingOf } from "./keys.ts";
import { LABEL_SMOOTHING_LOSS_TYPES, type LossType } from "./losses.ts";
import type { Config } from "./schema.ts";
import { list } from "./words.ts";

/**
 * A setting that does something only together with others. Set where it would do nothing, it is an error (rules.ts), and
 * it is left out of a config that is written (dump.ts).
 */
export interface Effect {
  readonly key: SettingKey;
  /** The value that says "off": allowed everywhere. */
  readonly neutral?: unknown;
  /** What `isUsed` looks at, the setting to name in the message first. */
  readonly dependsOn: readonly [SettingKey, ...SettingKey[]];
  readonly isUsed: (config: Config) => boolean;
  /** Completes "it needs …". */
  readonly needs: string;
}

const usesLoss = (config: Config, losses: readonly LossType[]) =>
  config.loss_type.some((loss) => losses.includes(loss));
const comparesWithReference = (config: Config) => config.loss_type.some((loss) => loss !== "sft");
const hasEvalData = (config: Config) => config.eval_dataset !== undefined || config.test_size !== undefined;
const evaluates = (config: Config) => config.eval_strategy !== "no" && hasEvalData(config);
const warmsUp = (config: Config) => config.lr_scheduler_type !== "constant";
const merges = (config: Config) => config.export.merged_16bit;
const pushes = (config: Config) => config.push_to_hub.repo !== undefined;
const samples = (config: Config) => config.sample_prompt !== undefined;

const EVALUATION = ["eval_strategy", "eval_dataset", "test_size"] as const;
const NEEDS_EVALUATION = "eval_dataset or test_size, and an eval_strategy other than no";
const NEEDS_WARMUP = "lr_scheduler_type linear, cosine or constant_with_warmup";
const NEEDS_REFERENCE = "a loss_type other than sft";

export const EFFECTS: readonly Effect[] = [
  {
    key: "label_smoothing",
    neutral: 0,
    dependsOn: ["loss_type"],
    isUsed: (config) => usesLoss(config, LABEL_SMOOTHING_LOSS_TYPES),
    needs: `loss_type ${list(LABEL_SMOOTHING_LOSS_TYPES, "or")}`,
  },
  {
    key: "discopop_tau",
    dependsOn: ["loss_type"],
    isUsed: (config) => usesLoss(config, ["discopop"]),
    needs: "loss_type discopop",
  },
  {
    key: "f_divergence_type",
    neutral: "reverse_kl",
    dependsOn: ["loss_type"],
    isUsed: comparesWithReference,
    needs: NEEDS_REFERENCE,
  },
  {
    key: "f_alpha_divergence_coef",
    dependsOn: ["f_divergence_type", "loss_type"],
    isUsed: (config) => config.f_divergence_type === "alpha_divergence",
    needs: "f_divergence_type alpha_divergence",
  },
  { key: "ld_alpha", neutral: 1, dependsOn: ["loss_type"], isUsed: comparesWithReference, needs: NEEDS_REFERENCE },
  { key: "warmup_steps", neutral: 0, dependsOn: ["lr_scheduler_type"], isUsed: warmsUp, needs: NEEDS_WARMUP },
  { key: "warmup_ratio", neutral: 0, dependsOn: ["lr_scheduler_type"], isUsed: warmsUp, needs: NEEDS_WARMUP },
  {
    key: "eval_strategy",
    neutral: "no",
    dependsOn: ["eval_dataset", "test_size"],
    isUsed: hasEvalData,
    needs: "eval_dataset or test_size",
  },
  {
    key: "eval_dataset",
    dependsOn: ["eval_strategy"],
    isUsed: (config) => config.eval_strategy !== "no",
    needs: "eval_strategy steps or epoch",
  },
  {
    key: "dataset_test_split",
    dependsOn: ["eval_dataset"],
    isUsed: (config) => config.eval_dataset !== undefined,
    needs: "eval_dataset",
  },
  {
    key: "eval_steps",
    dependsOn: [...EVALUATION],
    isUsed: (config) => config.eval_strategy === "steps",
    needs: "eval_strategy steps",
  },
  { key: "eval_kl", neutral: false, dependsOn: [...EVALUATION], isUsed: evaluates, needs: NEEDS_EVALUATION },
  { key: "per_device_eval_batch_size", dependsOn: [...EVALUATION], isUsed: evaluates, needs: NEEDS_EVALUATION },
  { key: "sample_max_new_tokens", dependsOn: ["sample_prompt"], isUsed: samples, needs: "sample_prompt" },
  { key: "sample_temperature", dependsOn: ["sample_prompt"], isUsed: samples, needs: "sample_prompt" },
  { key: "export.dtype", dependsOn: ["export.merged_16bit"], isUsed: merges, needs: "export.merged_16bit true" },
  {
    key: "export.max_shard_size",
    dependsOn: ["export.merged_16bit"],
    isUsed: merges,
    needs: "export.merged_16bit true",
  },
  ...(["what", "private", "revision", "base_model"] as const).map(
    (name): Effect => ({
      key: `push_to_hub.${name}`,
      dependsOn: ["push_to_hub.repo"],
      isUsed: pushes,
      needs: "push_to_hub.repo",
    }),
  ),
];

/** "label_smoothing has no effect with loss_type hinge: it needs …" */
export function noEffectMessage(effect: Effect, config: Config): string {
  const [first] = effect.dependsOn;
  const value = settingOf(config, first);
  const state = value === undefined ? `without ${list(effect.dependsOn, "or")}` : `with ${first} ${String(value)}`;
  return `${effect.key} has no effect ${state}: it needs ${effect.needs}`;
}
