import { EVAL_PREFIX } from "../train/records.ts";

const NAMES: Readonly<Record<string, string>> = {
  loss: "loss",
  "rewards/chosen": "reward of chosen",
  "rewards/rejected": "reward of rejected",
  "rewards/margins": "margin",
  "rewards/accuracies": "accuracy",
  "logps/chosen": "log-probability of chosen",
  "logps/rejected": "log-probability of rejected",
  kl: "KL",
  "kl/chosen": "KL on chosen",
  grad_norm: "gradient norm",
  learning_rate: "learning rate",
  entropy: "entropy",
  mean_token_accuracy: "token accuracy",
};

/** What a page calls a name of metrics.jsonl: `eval_rewards/margins` is the `evaluation margin`. */
export function metricLabel(key: string): string {
  const isEvaluation = key.startsWith(EVAL_PREFIX);
  const name = NAMES[isEvaluation ? key.slice(EVAL_PREFIX.length) : key];
  if (name === undefined) return key;
  return `${isEvaluation ? "evaluation" : "training"} ${name}`;
}

/** Shares of pairs, from 0 to 1. */
export function isShare(key: string): boolean {
  return key.endsWith("rewards/accuracies") || key.endsWith("mean_token_accuracy");
}

/** The axis of a share: its ends do not touch the plot's edge. */
export const SHARE_RANGE = [-0.04, 1.04] as const;
