import { describe, expect, test } from "vitest";
import { EFFECTS } from "../../src/config/effects.ts";
import { isSection, SETTING_KEYS, type SettingKey } from "../../src/config/keys.ts";
import { LOSS_TYPES } from "../../src/config/losses.ts";
import { RULES } from "../../src/config/rules.ts";
import type { Config } from "../../src/config/schema.ts";
import { UNSUPPORTED } from "../../src/config/unsupported.ts";
import { parsed, problems, REQUIRED } from "./problems.ts";

const EVALUATION = "eval_dataset or test_size, and an eval_strategy other than no";
const SMOOTHING = "loss_type sigmoid, exo_pair, robust, aot or aot_unpaired";
const WARMUP = "lr_scheduler_type linear, cosine or constant_with_warmup";

/** Settings, one a line, and what is wrong with the last of them. */
const NO_EFFECT: readonly (readonly [lines: string, message: string])[] = [
  [
    "loss_type: hinge\nlabel_smoothing: 0.1",
    `label_smoothing has no effect with loss_type hinge: it needs ${SMOOTHING}`,
  ],
  [
    "loss_type: [ipo, sft]\nlabel_smoothing: 0.1",
    `label_smoothing has no effect with loss_type ipo,sft: it needs ${SMOOTHING}`,
  ],
  ["discopop_tau: 0.1", "discopop_tau has no effect with loss_type sigmoid: it needs loss_type discopop"],
  ["discopop_tau: 0.05", "discopop_tau has no effect with loss_type sigmoid: it needs loss_type discopop"],
  [
    "loss_type: sft\nf_divergence_type: forward_kl",
    "f_divergence_type has no effect with loss_type sft: it needs a loss_type other than sft",
  ],
  [
    "f_alpha_divergence_coef: 0.3",
    "f_alpha_divergence_coef has no effect with f_divergence_type reverse_kl: it needs f_divergence_type alpha_divergence",
  ],
  ["loss_type: sft\nld_alpha: 0.5", "ld_alpha has no effect with loss_type sft: it needs a loss_type other than sft"],
  [
    "lr_scheduler_type: constant\nwarmup_steps: 10",
    `warmup_steps has no effect with lr_scheduler_type constant: it needs ${WARMUP}`,
  ],
  [
    "lr_scheduler_type: constant\nwarmup_ratio: 0.1",
    `warmup_ratio has no effect with lr_scheduler_type constant: it needs ${WARMUP}`,
  ],
  [
    "eval_strategy: epoch",
    "eval_strategy has no effect without eval_dataset or test_size: it needs eval_dataset or test_size",
  ],
  [
    "eval_strategy: no\neval_dataset: e",
    "eval_dataset has no effect with eval_strategy no: it needs eval_strategy steps or epoch",
  ],
  ["dataset_test_split: dev", "dataset_test_split has no effect without eval_dataset: it needs eval_dataset"],
  ["eval_steps: 10", "eval_steps has no effect with eval_strategy no: it needs eval_strategy steps"],
  [
    "eval_dataset: e\neval_steps: 10",
    "eval_steps has no effect with eval_strategy epoch: it needs eval_strategy steps",
  ],
  ["eval_kl: true", `eval_kl has no effect with eval_strategy no: it needs ${EVALUATION}`],
  [
    "test_size: 0.1\neval_strategy: no\neval_kl: true",
    `eval_kl has no effect with eval_strategy no: it needs ${EVALUATION}`,
  ],
  [
    "per_device_eval_batch_size: 8",
    `per_device_eval_batch_size has no effect with eval_strategy no: it needs ${EVALUATION}`,
  ],
  ["sample_max_new_tokens: 10", "sample_max_new_tokens has no effect without sample_prompt: it needs sample_prompt"],
  ["sample_temperature: 0.7", "sample_temperature has no effect without sample_prompt: it needs sample_prompt"],
  [
    "export: {merged_16bit: false, dtype: float16}",
    "export.dtype has no effect with export.merged_16bit false: it needs export.merged_16bit true",
  ],
  [
    "export: {merged_16bit: false, max_shard_size: 5GB}",
    "export.max_shard_size has no effect with export.merged_16bit false: it needs export.merged_16bit true",
  ],
  ...["what: adapter", "private: true", "revision: v2", "base_model: a/b"].map((setting): [string, string] => [
    `push_to_hub: {${setting}}`,
    `push_to_hub.${setting.split(":")[0]} has no effect without push_to_hub.repo: it needs push_to_hub.repo`,
  ]),
];

describe("a setting that would have no effect is an error", () => {
  test.each(NO_EFFECT)("%j", (lines, message) => {
    const line = 2 + lines.split("\n").length;
    const found = problems(`${REQUIRED}${lines}\n`);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(new RegExp(`^c\\.yaml:${line}:\\d+: `));
    expect(found[0]?.replace(/^\S+ /, "")).toBe(message);
  });

  test("each has a row in the table", () => {
    const tested = new Set(NO_EFFECT.map(([, message]) => message.split(" ")[0]));
    expect(EFFECTS.map((effect) => effect.key).filter((key) => !tested.has(key))).toEqual([]);
  });
});

test.each([
  "loss_type: hinge\nlabel_smoothing: 0",
  "loss_type: [hinge, robust]\nlabel_smoothing: 0.1",
  "loss_type: [sigmoid, discopop]\ndiscopop_tau: 0.1",
  "loss_type: sft\nf_divergence_type: reverse_kl\nld_alpha: 1",
  "f_divergence_type: alpha_divergence\nf_alpha_divergence_coef: 0.3",
  "loss_type: [sft, sigmoid]\nld_alpha: 0.5\nf_divergence_type: forward_kl",
  "lr_scheduler_type: constant\nwarmup_steps: 0",
  "lr_scheduler_type: constant_with_warmup\nwarmup_ratio: 0.1",
  "eval_strategy: no\neval_kl: false",
  "eval_dataset: e\neval_kl: true\nper_device_eval_batch_size: 2",
  "test_size: 0.1\neval_strategy: no",
  "test_size: 0.1\neval_strategy: steps\neval_steps: 0.2",
  "export: {merged_16bit: false}",
  "export: {dtype: float16}",
  "sample_prompt: Hi\nsample_temperature: 0.7\nsample_max_new_tokens: 5",
  "loss_type: [sigmoid, sft]\nloss_weights: [1, 0.2]",
  "loss_type: sigmoid\nloss_weights: [0.5]",
  "loss_type: exo_pair\nlabel_smoothing: 0.001",
  "loss_type: robust\nlabel_smoothing: 0",
  "report_to: none\nload_in_4bit: false",
  "report_to: tensorboard",
  "report_to: [tensorboard, comet_ml, wandb, mlflow]",
])("allowed: %j", (lines) => {
  expect(problems(`${REQUIRED}${lines}\n`)).toEqual([]);
});

test.each([
  ["eval_dataset: e\ntest_size: 0.1", "c.yaml:4:12: test_size and eval_dataset exclude each other: remove one of them"],
  [
    "warmup_steps: 0\nwarmup_ratio: 0.1",
    "c.yaml:4:15: warmup_ratio and warmup_steps exclude each other: remove one of them",
  ],
  [
    "max_steps: 5\nnum_train_epochs: 3",
    "c.yaml:3:12: max_steps and num_train_epochs exclude each other: remove one of them",
  ],
  [
    "loss_type: [sigmoid, sft]\nloss_weights: [1]",
    "c.yaml:4:15: loss_weights must have one number for each of 2 in loss_type, got 1",
  ],
  ["loss_weights: [1, 2]", "c.yaml:3:15: loss_weights must have one number for each of 1 in loss_type, got 2"],
  ["loss_type: [sft, hinge, sft]", "c.yaml:3:25: loss_type names sft twice: to weigh a loss set loss_weights"],
  ["report_to: [wandb, mlflow, wandb]", "c.yaml:3:28: report_to names wandb twice: name it once"],
  [
    "lora: {target_modules: [q_proj, v_proj, q_proj]}",
    "c.yaml:3:41: lora.target_modules names q_proj twice: name it once",
  ],
  [
    "loss_type: exo_pair",
    "c.yaml:3:12: loss_type exo_pair needs label_smoothing above 0; the EXO paper recommends 1e-3",
  ],
  [
    "loss_type: [sigmoid, exo_pair]\nlabel_smoothing: 0",
    "c.yaml:3:12: loss_type exo_pair needs label_smoothing above 0; the EXO paper recommends 1e-3",
  ],
  [
    "f_divergence_type: forward_kl\nloss_type: [sigmoid, bco_pair, aot]",
    "c.yaml:3:20: f_divergence_type forward_kl needs loss_type sigmoid, hinge, ipo, exo_pair, robust, discopop, sft or sigmoid_norm, got bco_pair and aot",
  ],
  [
    "test_size: 0.1\neval_strategy: steps",
    "c.yaml:4:16: eval_strategy steps needs eval_steps: 0.2 evaluates about five times",
  ],
])("%j", (lines, message) => {
  expect(problems(`${REQUIRED}${lines}\n`)).toEqual([message]);
});

test("the losses that take an f-divergence are TRL's", () => {
  const takes = LOSS_TYPES.filter((loss) => {
    const smoothing = loss === "exo_pair" ? "label_smoothing: 0.1\n" : "";
    return problems(`${REQUIRED}loss_type: [sigmoid, ${loss}]\nf_divergence_type: js_divergence\n${smoothing}`).every(
      (line) => !line.includes("f_divergence_type"),
    );
  });
  expect(takes).toEqual(["sigmoid", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft", "sigmoid_norm"]);
});

test("the losses that take label_smoothing are those with a term for it", () => {
  const takes = LOSS_TYPES.filter(
    (loss) => problems(`${REQUIRED}loss_type: ${loss}\nlabel_smoothing: 0.1\n`).length === 0,
  );
  expect(takes).toEqual(["sigmoid", "exo_pair", "robust", "aot", "aot_unpaired"]);
});

describe("what this version does not do is refused by name", () => {
  const trackers =
    "report_to: all, azure_ml, clearml, codecarbon, dagshub, dvclive, flyte, neptune, swanlab, trackio are not supported by this version: name one or more of tensorboard, comet_ml, wandb and mlflow";
  test.each([
    ["report_to: all", trackers],
    ["report_to: [wandb, clearml]", trackers],
  ])("%s", (line, message) => {
    expect(problems(`${REQUIRED}${line}\n`)).toEqual([`c.yaml:3:1: ${message}`]);
    const [, key = "", value = ""] = /^(\w+): (.+)$/.exec(line) ?? [];
    expect(problems(REQUIRED, `${key}=${value}`)).toEqual([`--set ${key}: ${message}`]);
  });

  test("every one is in the table above", () => {
    expect(UNSUPPORTED.map(({ key }) => key)).toEqual(["report_to"]);
  });
});

test("a rule says nothing where a setting that it reads is invalid", () => {
  expect(problems(`${REQUIRED}eval_dataset: 5\neval_strategy: steps\neval_steps: 2\neval_kl: true\n`)).toEqual([
    "c.yaml:3:15: eval_dataset must be a .jsonl, .json, .csv or .parquet file, a folder of these, or a Hugging Face Hub id, got 5; put it in quotes",
  ]);
  expect(problems(`${REQUIRED}loss_type: hing\nlabel_smoothing: 0.1\n`)).toHaveLength(1);
  expect(problems(`${REQUIRED}lora: 5\nexport: [x]\n`)).toHaveLength(2);
});

test("no rule reads a setting that it does not declare", () => {
  const configs = [
    parsed(REQUIRED),
    parsed(`${REQUIRED}loss_type: sft\neval_dataset: e\nmax_steps: 1\nexport: {merged_16bit: false}\n`),
    parsed(`${REQUIRED}test_size: 0.1\neval_strategy: steps\neval_steps: 1\nloss_weights: [1]\nwarmup_ratio: 0.5\n`),
    { ...parsed(`${REQUIRED}loss_type: bco_pair\n`), f_divergence_type: "forward_kl" } satisfies Config,
  ];
  for (const rule of RULES) {
    const read = new Set<string>();
    for (const config of configs) rule.check(recording(config, read), new Set(SETTING_KEYS));
    expect([...read].filter((key) => !rule.reads.includes(key as SettingKey))).toEqual([]);
  }
});

/** The config, with the name of every setting that is looked at put into `read`. */
function recording(config: Config, read: Set<string>): Config {
  const watch = <T extends object>(target: T, prefix: string): T =>
    new Proxy(target, {
      get(object, property) {
        const value: unknown = Reflect.get(object, property);
        const key = `${prefix}${String(property)}`;
        if (isSection(key)) return watch(value as object, `${key}.`);
        read.add(key);
        return value;
      },
    });
  return watch(config, "");
}
