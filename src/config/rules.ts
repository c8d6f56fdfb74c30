import { EFFECTS, type Effect, noEffectMessage } from "./effects.ts";
import { type SettingKey, settingOf } from "./keys.ts";
import { F_DIVERGENCE_LOSS_TYPES, LABEL_SMOOTHING_REQUIRED_LOSS_TYPES } from "./losses.ts";
import type { Config } from "./schema.ts";
import { list } from "./words.ts";

/** A rule between settings, checked once each of them is valid by itself. */
export interface Rule {
  /** Every setting that the rule looks at: it is skipped where one of them is invalid. */
  readonly reads: readonly SettingKey[];
  readonly check: (config: Config, given: ReadonlySet<SettingKey>) => readonly Finding[];
}

export interface Finding {
  /** The value to point at: a setting, or an item of its list (`loss_type.1`). */
  readonly path: string;
  readonly message: string;
}

/** Two ways to say one thing: at most one of each pair is set. */
export const ALTERNATIVES: readonly (readonly [SettingKey, SettingKey])[] = [
  ["eval_dataset", "test_size"],
  ["warmup_steps", "warmup_ratio"],
  ["num_train_epochs", "max_steps"],
];

export const RULES: readonly Rule[] = [
  ...EFFECTS.map(hasEffect),
  ...ALTERNATIVES.map(onlyOneOf),
  namedOnce("loss_type", "to weigh a loss set loss_weights"),
  namedOnce("lora.target_modules", "name it once"),
  namedOnce("report_to", "name it once"),
  { reads: ["loss_weights", "loss_type"], check: oneWeightPerLoss },
  { reads: ["label_smoothing", "loss_type"], check: lossesThatNeedSmoothing },
  { reads: ["f_divergence_type", "loss_type"], check: fDivergenceLosses },
  { reads: ["eval_strategy", "eval_steps", "eval_dataset", "test_size"], check: stepsNeedEvalSteps },
  { reads: ["push_to_hub.what", "export.merged_16bit"], check: pushedModelIsMerged },
];

function hasEffect(effect: Effect): Rule {
  return {
    reads: [effect.key, ...effect.dependsOn],
    check(config, given) {
      const isOff = effect.neutral !== undefined && settingOf(config, effect.key) === effect.neutral;
      if (!given.has(effect.key) || isOff || effect.isUsed(config)) return [];
      return [{ path: effect.key, message: noEffectMessage(effect, config) }];
    },
  };
}

function onlyOneOf(pair: readonly [SettingKey, SettingKey]): Rule {
  const [one, other] = pair;
  return {
    reads: pair,
    check(_, given) {
      if (!given.has(one) || !given.has(other)) return [];
      return [{ path: other, message: `${other} and ${one} exclude each other: remove one of them` }];
    },
  };
}

function namedOnce(key: SettingKey, instead: string): Rule {
  return {
    reads: [key],
    check(config) {
      const names = settingOf(config, key) as readonly string[];
      return names.flatMap((name, i) =>
        names.indexOf(name) === i ? [] : [{ path: `${key}.${i}`, message: `${key} names ${name} twice: ${instead}` }],
      );
    },
  };
}

function oneWeightPerLoss({ loss_weights: weights, loss_type: losses }: Config): Finding[] {
  if (weights === undefined || weights.length === losses.length) return [];
  const message = `loss_weights must have one number for each of ${losses.length} in loss_type, got ${weights.length}`;
  return [{ path: "loss_weights", message }];
}

function lossesThatNeedSmoothing({ loss_type: losses, label_smoothing: epsilon }: Config): Finding[] {
  const needing = losses.filter((loss) => LABEL_SMOOTHING_REQUIRED_LOSS_TYPES.includes(loss));
  if (needing.length === 0 || epsilon > 0) return [];
  // The loss has a term in ln ε.
  const message = `loss_type ${list(needing, "and")} needs label_smoothing above 0; the EXO paper recommends 1e-3`;
  return [{ path: "loss_type", message }];
}

function fDivergenceLosses({ loss_type: losses, f_divergence_type: divergence }: Config): Finding[] {
  if (divergence === "reverse_kl") return [];
  const others = losses.filter((loss) => !F_DIVERGENCE_LOSS_TYPES.includes(loss));
  if (others.length === 0) return [];
  const allowed = list(F_DIVERGENCE_LOSS_TYPES, "or");
  const message = `f_divergence_type ${divergence} needs loss_type ${allowed}, got ${list(others, "and")}`;
  return [{ path: "f_divergence_type", message }];
}

function stepsNeedEvalSteps(config: Config): Finding[] {
  if (config.eval_strategy !== "steps" || config.eval_steps !== undefined) return [];
  return [{ path: "eval_strategy", message: "eval_strategy steps needs eval_steps: 0.2 evaluates about five times" }];
}

function pushedModelIsMerged(config: Config): Finding[] {
  if (config.push_to_hub.what !== "merged" || config.export.merged_16bit) return [];
  const message = "push_to_hub.what merged needs export.merged_16bit true: there is no merged model without it";
  return [{ path: "push_to_hub.what", message }];
}
