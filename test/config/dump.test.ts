import { describe, expect, test } from "vitest";
import { parseDocument } from "yaml";
import { dumpConfig } from "../../src/config/dump.ts";
import { SETTING_KEYS } from "../../src/config/keys.ts";
import { LOSS_TYPES } from "../../src/config/losses.ts";
import { parsed, REQUIRED } from "./problems.ts";

const CONFIGS = [
  "",
  "eval_dataset: e\n",
  "test_size: 0.1\neval_strategy: steps\neval_steps: 0.2\neval_kl: true\nper_device_eval_batch_size: 3\n",
  "test_size: 0.1\neval_strategy: no\n",
  "max_steps: 7\nwarmup_ratio: 0.1\nmax_train_samples: 5\ninit_adapter: a/b\nmax_tokens_per_batch: 2048\n",
  "lr_scheduler_type: constant\nwarmup_ratio: 0\n",
  "lr_scheduler_type: constant\nwarmup_steps: 0\n",
  "loss_type: sft\nld_alpha: 1\n",
  "loss_type: hinge\nlabel_smoothing: 0\nld_alpha: 0\n",
  "loss_type: [robust, discopop]\nloss_weights: [1, 0.25]\nlabel_smoothing: 0.1\ndiscopop_tau: 0.5\n",
  "f_divergence_type: alpha_divergence\nf_alpha_divergence_coef: -0.3\n",
  "export: {merged_16bit: false}\nlora: {r: 4, target_modules: [v_proj, q_proj]}\n",
  "sample_prompt: Hi\nsample_temperature: 0.7\nexport: {dtype: float16, max_shard_size: 500MiB}\n",
  "learning_rate: 5e-7\nadam_epsilon: 1.25e-12\nbeta: 1e-30\nweight_decay: 1e21\nseed: 4294967295\n",
  ...LOSS_TYPES.map((loss) => `loss_type: ${loss}\n${loss === "exo_pair" ? "label_smoothing: 0.001\n" : ""}`),
];

test.each(CONFIGS)("%j loads back to the same config", (lines) => {
  const config = parsed(REQUIRED + lines);
  const text = dumpConfig(config);
  // Unset keys are absent from both, not undefined in one.
  expect(parsed(text)).toStrictEqual(JSON.parse(JSON.stringify(config)));
  expect(dumpConfig(parsed(text))).toBe(text);
});

describe("texts come back as they were", () => {
  test.each([
    "yes",
    "no",
    "null",
    "~",
    "5e-6",
    "0x10",
    "true",
    "- a",
    "a: b",
    "a #b",
    "*a",
    "&a",
    "!a",
    "'",
    '"',
    "\\",
    "\\n",
    "{a}",
    "line\nline\r\n\ttab",
    "trailing ",
    " leading",
    "---",
    "...",
    "%YAML",
    "é 🦙 中",
    "\u2028\u2029\u0085\ufeff\u007f\u009b31m\u001b[31m\u0000",
    "\ud800",
    "x".repeat(5000),
  ])("%j", (prompt) => {
    const config = { ...parsed(REQUIRED), sample_prompt: prompt };
    const text = dumpConfig(config);
    expect(parsed(text).sample_prompt).toBe(prompt);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what must not be in the file.
    expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029\ufeff]/);
  });
});

test("YAML 1.1 reads the same values", () => {
  const lines = "learning_rate: 5e-7\nadam_epsilon: 1e-12\ntest_size: 0.1\neval_strategy: no\noutput_dir: '12:30'\n";
  const text = dumpConfig(parsed(REQUIRED + lines));
  const read = (version: "1.1" | "1.2"): unknown => parseDocument(text, { version }).toJS();
  expect(text).toContain("learning_rate: 5.0e-7\n");
  expect(text).toContain('eval_strategy: "no"\n');
  expect(read("1.1")).toEqual(read("1.2"));
});

test("keys are in the order of the schema, whatever their order in the file", () => {
  const text = dumpConfig(parsed("seed: 1\nlora: {lora_alpha: 4, r: 2}\ndataset: d\nbeta: 1\nmodel: m\n"));
  const keys = [...text.matchAll(/^ *([a-z_0-9]+):/gm)].map(([, key]) => key);
  const order = SETTING_KEYS.map((key) => key.split(".").at(-1));
  const written = keys.filter((key) => key !== "lora" && key !== "export");
  expect(written).toEqual(order.filter((key) => written.includes(key)));
});

test("a whole config", () => {
  expect(
    dumpConfig(parsed(`${REQUIRED}lora: {target_modules: [q_proj, v_proj]}\nmax_steps: 3\n`)),
  ).toMatchInlineSnapshot(`
    "model: "m"
    dataset: "d"
    prompt_template: "none"
    max_length: 1024
    lora:
      r: 8
      lora_alpha: 8
      lora_dropout: 0
      target_modules: ["q_proj", "v_proj"]
    beta: 0.1
    loss_type: ["sigmoid"]
    label_smoothing: 0
    f_divergence_type: "reverse_kl"
    learning_rate: 0.000001
    lr_scheduler_type: "linear"
    warmup_steps: 0
    per_device_train_batch_size: 8
    gradient_accumulation_steps: 1
    max_steps: 3
    optim: "adamw_8bit"
    weight_decay: 0
    adam_beta1: 0.9
    adam_beta2: 0.999
    adam_epsilon: 1.0e-8
    max_grad_norm: 1
    load_in_4bit: false
    reference_cache: true
    shuffle: true
    seed: 42
    eval_strategy: "no"
    eval_kl: false
    logging_steps: 1
    report_to: []
    save_total_limit: 2
    output_dir: "trainer_output"
    export:
      merged_16bit: true
      dtype: "bfloat16"
      max_shard_size: "5GB"
    "
  `);
});
