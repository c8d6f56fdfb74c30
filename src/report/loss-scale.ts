import type { SweepResults } from "../sweep/results.ts";

/** Settings that put the losses of different runs on different scales. */
const SCALING_SETTINGS = [
  "beta",
  "loss_type",
  "loss_weights",
  "label_smoothing",
  "f_divergence_type",
  "f_alpha_divergence_coef",
  "ld_alpha",
  "discopop_tau",
];

/** The swept settings for which the runs' values of the metric cannot be compared; none where the metric is no loss. */
export function incomparableSettings({ keys, metric }: Pick<SweepResults, "keys" | "metric">): string[] {
  return metric.name.endsWith("loss") ? keys.filter((key) => SCALING_SETTINGS.includes(key)) : [];
}
