import { formatShortly } from "../report/browser/numbers.ts";
import type { RunFiles } from "../report/run-files.ts";
import { numberAt, textAt, valueAt } from "../train/json-tree.ts";
import { code, table } from "./markdown.ts";

type Run = Pick<RunFiles, "run" | "config">;

/** Settings that make a run what it is, by the names of TRL and PEFT. Those that a config leaves out had no effect. */
const SETTINGS = [
  "loss_type",
  "loss_weights",
  "beta",
  "label_smoothing",
  "f_divergence_type",
  "ld_alpha",
  "discopop_tau",
  "lora.r",
  "lora.lora_alpha",
  "lora.target_modules",
  "load_in_4bit",
  "optim",
  "learning_rate",
  "lr_scheduler_type",
  "warmup_steps",
  "warmup_ratio",
  "weight_decay",
  "adam_beta1",
  "adam_beta2",
  "adam_epsilon",
  "max_grad_norm",
  "num_train_epochs",
  "max_steps",
  "max_length",
  "prompt_template",
  "seed",
];

/** With what settings a run was made. */
export function recipeSection(files: Run): string {
  const { run, config } = files;
  const settings = SETTINGS.flatMap((key): [string, string][] => {
    const value = valueAt(config, ...key.split("."));
    return value === undefined ? [] : [[`\`${key}\``, shown(value)]];
  });
  const batch = pairsPerStep(config);
  const steps = numberAt(run, "schedule", "total_steps");
  const precision = valueAt(run, "precision");
  return [
    "## Recipe",
    origins(files),
    table(
      ["setting", "value"],
      [
        ...settings,
        ...(batch === null ? [] : [["pairs in a step", String(batch)]]),
        ...(steps === null ? [] : [["steps", String(steps)]]),
        ...(typeof precision === "string" ? [["matrix products", code(precision)]] : []),
      ],
    ),
  ].join("\n\n");
}

/** What training began with and was measured against, as far as the settings do not say it. */
function origins({ run, config }: Run): string {
  const start = textAt(run, "sha256", "init_adapter");
  return [
    "The reference is the base without the adapter.",
    start === null
      ? ""
      : `Training began with an adapter that was there before (SHA-256 of its weights ${code(start)}), which is part of this one.`,
    valueAt(config, "load_in_4bit") === true
      ? "While training, the base had the weights of its projections in 4 bits (NF4): loaded in 16 bits it answers slightly otherwise."
      : "",
  ]
    .filter((sentence) => sentence !== "")
    .join(" ");
}

function shown(value: unknown): string {
  if (typeof value === "number") return formatShortly(value);
  if (Array.isArray(value)) return value.map(shown).join(", ");
  return code(String(value));
}

function pairsPerStep(config: RunFiles["config"]): number | null {
  const [batch, accumulated] = [
    numberAt(config, "per_device_train_batch_size"),
    numberAt(config, "gradient_accumulation_steps"),
  ];
  return batch === null || accumulated === null ? null : batch * accumulated;
}
