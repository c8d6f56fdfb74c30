import { describe, expect, test } from "vitest";
import { SETTING_KEYS } from "../../src/config/keys.ts";
import { LOSS_TYPES } from "../../src/config/losses.ts";
import { TARGET_MODULES } from "../../src/config/names.ts";
import { parsed, problems, REQUIRED } from "./problems.ts";

/** A config with one setting, written in flow style so that sections need no indentation. */
function withSetting(key: string, value: string): string {
  const [first, inner] = key.split(".");
  const setting = inner === undefined ? `${first}: ${value}` : `${first}: {${inner}: ${value}}`;
  return key === "model"
    ? `dataset: d\n${setting}\n`
    : `model: m\n${key === "dataset" ? "" : "dataset: d\n"}${setting}\n`;
}

function settingProblems(key: string, value: string): string[] {
  return problems(withSetting(key, value)).filter((line) => line.includes(" must be "));
}

test("defaults are those of TRL 1.13, transformers 5.18 and PEFT 0.21, but for the documented ones", () => {
  expect(parsed(REQUIRED)).toEqual({
    model: "m",
    dataset: "d",
    columns: {},
    prompt_template: "none",
    max_length: 1024,
    lora: { r: 8, lora_alpha: 8, lora_dropout: 0, target_modules: [...TARGET_MODULES] },
    beta: 0.1,
    loss_type: ["sigmoid"],
    label_smoothing: 0,
    f_divergence_type: "reverse_kl",
    f_alpha_divergence_coef: 0.5,
    discopop_tau: 0.05,
    learning_rate: 1e-6,
    lr_scheduler_type: "linear",
    warmup_steps: 0,
    per_device_train_batch_size: 8,
    per_device_eval_batch_size: 8,
    gradient_accumulation_steps: 1,
    num_train_epochs: 3,
    optim: "adamw_8bit",
    weight_decay: 0,
    adam_beta1: 0.9,
    adam_beta2: 0.999,
    adam_epsilon: 1e-8,
    max_grad_norm: 1,
    load_in_4bit: false,
    reference_cache: true,
    shuffle: true,
    seed: 42,
    eval_strategy: "no",
    eval_kl: false,
    logging_steps: 1,
    report_to: [],
    save_total_limit: 2,
    sample_max_new_tokens: 128,
    sample_temperature: 0,
    output_dir: "trainer_output",
    export: { merged_16bit: true, dtype: "bfloat16", max_shard_size: "5GB" },
    push_to_hub: { private: true, revision: "main" },
  });
});

test("two configs share no list that one could change for the other", () => {
  parsed(REQUIRED).lora.target_modules.pop();
  parsed(REQUIRED).loss_type.push("sft");
  expect(parsed(REQUIRED).lora.target_modules).toEqual(TARGET_MODULES);
  expect(parsed(REQUIRED).loss_type).toEqual(["sigmoid"]);
});

test.each([
  ["eval_dataset: e", "epoch"],
  ["test_size: 0.1", "epoch"],
  ["test_size: 0.1\neval_strategy: no", "no"],
  ["seed: 1", "no"],
])("eval_strategy of %j is %s", (lines, strategy) => {
  expect(parsed(`${REQUIRED}${lines}\n`).eval_strategy).toBe(strategy);
});

test.each(LOSS_TYPES)("loss_type %s is read as a list of one", (loss) => {
  const smoothing = loss === "exo_pair" ? "label_smoothing: 0.001\n" : "";
  expect(parsed(`${REQUIRED}loss_type: ${loss}\n${smoothing}`).loss_type).toEqual([loss]);
});

const PATHS = ["''", "' '", "5", "[a]", "{a: b}", "null", '"a\\0b"', '"a\\eb"', "true"];
const COUNTS = ["0", "-1", "1.5", "'3'", "many", ".inf", ".nan", "1e16", "[1]", "null", "true"];
const REPOSITORIES = ["llama", "a/b/c", "/a/b", "./a", "a/b@main", "-a/b", "a/b.git", "a/b--c", "a/b c", "5", "null"];
const SWITCHES = ["yes", "1", "'true'", "null", "[true]"];
const ABOVE_0 = [
  "0",
  "-0.0",
  "-1",
  ".inf",
  "-.inf",
  ".nan",
  "1e999",
  "1e-50",
  "1e39",
  "2e-6x",
  "'0.5'",
  "1_000",
  "true",
];
const NOT_NEGATIVE = ["-1", "-1e-9", ".inf", ".nan", "1e-50", "1e39", "x", "null"];
const SHARE_BELOW_1 = ["-0.1", "1", "0.99999999999", "1.5", ".nan", "x"];

/** What each setting takes, the bounds among it, and what it refuses. */
const VALUES: Record<string, readonly [valid: readonly string[], invalid: readonly string[]]> = {
  model: [["org/name", "./a b/модель", "'123'"], PATHS],
  dataset: [["rows.jsonl"], PATHS],
  eval_dataset: [["rows.jsonl"], PATHS],
  dataset_config: [
    ["helpful-base", "a b"],
    ["5", "''", "null", "[a]"],
  ],
  dataset_train_split: [
    ["train", "train_prefs", "a.b"],
    ["''", "'train[:10%]'", "a-b", "5", "null"],
  ],
  dataset_test_split: [["test"], ["''", "test+train"]],
  "columns.prompt": [
    ["question", "'user input'"],
    ["''", "5", "[a]", "null"],
  ],
  "columns.chosen": [["better"], ["''", "{a: b}"]],
  "columns.rejected": [["worse"], ["''", "true"]],
  "columns.system": [["system"], ["''", "1.5"]],
  test_size: [
    ["0.05", "0.999"],
    ["0", "1", "20", "-0.1", "'0.1'"],
  ],
  max_train_samples: [["1", "100"], COUNTS],
  prompt_template: [
    ["none", "alpaca", "chat"],
    ["Alpaca", "''", "null", "5", "[alpaca]"],
  ],
  max_length: [
    ["2", "1024", "131072"],
    ["1", "0", "2.5", "null", "'1024'"],
  ],
  "lora.r": [
    ["1", "8", "1024", "0x10"],
    ["0", "-8", "8.5", "1025", "'8'", ".inf"],
  ],
  "lora.lora_alpha": [["1", "0.5", "64"], ABOVE_0],
  "lora.lora_dropout": [
    ["0", "0.0"],
    ["0.05", "1", "-0.1", "'0'", "null"],
  ],
  "lora.target_modules": [
    ["[q_proj]", `[${TARGET_MODULES.join(", ")}]`],
    ["[]", "q_proj", "all-linear", "[lm_head]", "[q_proj, 5]", "[[q_proj]]", "null", "{q_proj: true}"],
  ],
  init_adapter: [["runs/a/adapter"], PATHS],
  beta: [["0.1", "1e-30", "10", ".5", "+0.5", "5e-6", "0x1"], ABOVE_0],
  loss_type: [
    ["sigmoid", "[sigmoid, sft]", "[hinge]"],
    ["sigmod", "[]", "[sigmoid, sigmod]", "5", "null", "{a: 1}"],
  ],
  loss_weights: [
    ["[1]", "[0.5]"],
    ["[]", "1", "[0]", "[-1]", "['1']", "[.inf]", "null"],
  ],
  label_smoothing: [
    ["0", "0.1", "0.499"],
    ["0.5", "-0.1", "1", ".nan", "'0.1'"],
  ],
  f_divergence_type: [
    ["reverse_kl", "alpha_divergence"],
    ["kl", "null", "[forward_kl]"],
  ],
  f_alpha_divergence_coef: [
    ["0.5", "0", "-1", "1", "2"],
    [".inf", "x", "1e39", "null"],
  ],
  ld_alpha: [
    ["0", "0.5", "1"],
    ["-0.1", "1.1", ".nan", "x"],
  ],
  discopop_tau: [["0.05"], ABOVE_0],
  learning_rate: [["2e-6", "2.0e-6", "2E-6", "0.000002", "1"], ABOVE_0],
  lr_scheduler_type: [
    ["linear", "cosine", "constant", "constant_with_warmup"],
    ["Linear", "polynomial", "null"],
  ],
  warmup_steps: [
    ["0", "10"],
    ["-1", "0.1", "'10'", "null"],
  ],
  warmup_ratio: [
    ["0", "0.1", "1"],
    ["-0.1", "1.1", "10", "null"],
  ],
  per_device_train_batch_size: [["1", "64"], COUNTS],
  per_device_eval_batch_size: [["1", "64"], COUNTS],
  gradient_accumulation_steps: [["1", "64"], COUNTS],
  num_train_epochs: [["1", "0.5", "3.0"], ABOVE_0],
  max_steps: [["1", "1000"], COUNTS],
  optim: [
    ["adamw", "adamw_8bit"],
    ["adamw_torch", "sgd", "null"],
  ],
  weight_decay: [["0", "0.01"], NOT_NEGATIVE],
  adam_beta1: [["0", "0.9"], SHARE_BELOW_1],
  adam_beta2: [["0", "0.999"], SHARE_BELOW_1],
  adam_epsilon: [["1e-8", "1"], ABOVE_0],
  max_grad_norm: [["0", "1.0"], NOT_NEGATIVE],
  max_tokens_per_batch: [["1", "4096"], COUNTS],
  gradient_checkpointing: [["true", "false"], SWITCHES],
  load_in_4bit: [["true", "false"], SWITCHES],
  reference_cache: [["true", "False", "TRUE"], SWITCHES],
  shuffle: [["true", "false"], SWITCHES],
  seed: [
    ["0", "4294967295"],
    ["-1", "4294967296", "1.5", "'0'", "x", "null"],
  ],
  eval_strategy: [
    ["no", "steps", "epoch"],
    ["never", "false", "null"],
  ],
  eval_steps: [
    ["1", "10", "0.2", "0.999"],
    ["0", "1.5", "-1", ".inf", "x", "1e39"],
  ],
  eval_kl: [["true", "false"], SWITCHES],
  save_steps: [
    ["1", "500", "0.2", "0.999"],
    ["0", "1.5", "-1", ".inf", "x", "1e39", "null"],
  ],
  save_total_limit: [["1", "10"], COUNTS],
  logging_steps: [["1", "10"], COUNTS],
  report_to: [
    ["none", "tensorboard", "wandb", "[wandb, mlflow]", "[comet_ml]", "[]"],
    ["5", "null", "{a: b}", "tensorbord", "[none]", "[5]"],
  ],
  sample_prompt: [
    ["Who are you?", '"two\\nlines"', "'5'"],
    ["''", "' '", "5", "[a]", "null"],
  ],
  sample_max_new_tokens: [["1", "256"], COUNTS],
  sample_temperature: [["0", "0.7", "1"], NOT_NEGATIVE],
  output_dir: [["runs/a"], PATHS],
  "export.merged_16bit": [["true", "false"], SWITCHES],
  "export.dtype": [
    ["bfloat16", "float16", "float32"],
    ["bf16", "fp16", "int8", "null"],
  ],
  "export.max_shard_size": [
    ["5GB", "500MiB", "1KB", "999999GiB"],
    ["5", "5gb", "5 GB", "0GB", "-1GB", "1.5GB", "5TB", "1000000GB"],
  ],
  "push_to_hub.repo": [["ada/Llama-3.2", "a_b/c.d"], REPOSITORIES],
  "push_to_hub.what": [
    ["adapter", "merged"],
    ["both", "[adapter]", "null"],
  ],
  "push_to_hub.private": [["true", "false"], SWITCHES],
  "push_to_hub.revision": [
    ["main", "v1.0", "refs-1/try"],
    ["a b", "../x", "refs/pr/1", "x$(y)", "0123456789abcdef0123456789abcdef01234567", "5", "null"],
  ],
  "push_to_hub.base_model": [["meta-llama/Llama-3.2-1B"], REPOSITORIES],
};

test("every setting is in the table", () => {
  expect(Object.keys(VALUES).sort()).toEqual([...SETTING_KEYS].sort());
});

describe.each(Object.entries(VALUES))("%s", (key, [valid, invalid]) => {
  test.each(valid)("takes %s", (value) => {
    expect(settingProblems(key, value)).toEqual([]);
  });
  test.each(invalid)("refuses %s", (value) => {
    const [problem, ...others] = settingProblems(key, value);
    expect(problem).toMatch(new RegExp(`^c\\.yaml:\\d+:\\d+: ${key} must be .+, got .+`));
    expect(others).toEqual([]);
  });
});
