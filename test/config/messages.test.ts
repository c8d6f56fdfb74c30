import { expect, test } from "vitest";
import { closest, editDistance, list } from "../../src/config/words.ts";
import { problems, REQUIRED } from "./problems.ts";

test.each([
  ["learning_rate: 2e-6x", 'c.yaml:3:16: learning_rate must be a number above 0, got "2e-6x"'],
  ['beta: "0.5"', 'c.yaml:3:7: beta must be a number above 0, got "0.5" in quotes; remove the quotes'],
  ["beta: '1e-3'", 'c.yaml:3:7: beta must be a number above 0, got "1e-3" in quotes; remove the quotes'],
  ["shuffle: 'false'", 'c.yaml:3:10: shuffle must be true or false, got "false" in quotes; remove the quotes'],
  ["shuffle: yes", 'c.yaml:3:10: shuffle must be true or false, got "yes"'],
  ["beta:", "c.yaml:3:6: beta must be a number above 0, got nothing"],
  ["beta: null", "c.yaml:3:7: beta must be a number above 0, got nothing"],
  ["beta: .inf", "c.yaml:3:7: beta must be a number above 0, got .inf"],
  ["beta: 1e-50", "c.yaml:3:7: beta must be a number above 0 that float32 can hold, got 1e-50"],
  ["adam_beta2: 1", "c.yaml:3:13: adam_beta2 must be a number of at least 0 and below 1, got 1"],
  [
    "adam_beta2: 0.99999999999",
    "c.yaml:3:13: adam_beta2 must be a number of at least 0 and below 1 also in float32, got 0.99999999999",
  ],
  ["beta: [0.1]", "c.yaml:3:7: beta must be a number above 0, got a list"],
  ["beta: {value: 0.1}", "c.yaml:3:7: beta must be a number above 0, got a map"],
  ["output_dir: 2026", "c.yaml:3:13: output_dir must be a folder, got 2026; put it in quotes"],
  ["sample_prompt: {What: is}", "c.yaml:3:16: sample_prompt must be text, got a map; put it in quotes"],
  [
    "seed: 12345678901234567890",
    "c.yaml:3:7: seed must be a whole number from 0 to 4294967295, got 12345678901234567890",
  ],
  [
    "optim: adamw8bit",
    'c.yaml:3:8: optim must be one of adamw_8bit or adamw, got "adamw8bit" (did you mean adamw_8bit?)',
  ],
  [
    "export: {dtype: bf16}",
    'c.yaml:3:17: export.dtype must be one of bfloat16, float16 or float32, got "bf16" (did you mean bfloat16?)',
  ],
  ["loss_type: dpo", expect.stringMatching(/^c\.yaml:3:12: loss_type must be .*got "dpo" \(did you mean sigmoid\?\)$/)],
  ["num_epochs: 1", "c.yaml:3:1: unknown key num_epochs; did you mean num_train_epochs?"],
  [
    "lora: {lora_dropout: 0.05}",
    "c.yaml:3:22: lora.lora_dropout must be 0, as TRL disables dropout in DPO and another value would have no effect, got 0.05",
  ],
  [
    "warmup_steps: 0.1",
    "c.yaml:3:15: warmup_steps must be a whole number of at least 0 (for a share of the run set warmup_ratio), got 0.1",
  ],
  ["lora: 8", "c.yaml:3:7: lora must be a map of r, lora_alpha, lora_dropout and target_modules, got 8"],
  ["lora:", "c.yaml:3:6: lora must be a map of r, lora_alpha, lora_dropout and target_modules, got nothing"],
  [
    "lora: {target_modules: [q_proj, qproj]}",
    'c.yaml:3:33: lora.target_modules must be a list of one or more of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj, got "qproj" (did you mean q_proj?)',
  ],
  [
    "loss_type: [sigmoid, hing]",
    'c.yaml:3:22: loss_type must be one of, or a list of, sigmoid, hinge, ipo, exo_pair, nca_pair, robust, bco_pair, sppo_hard, aot, aot_unpaired, apo_zero, apo_down, discopop, sft or sigmoid_norm, got "hing" (did you mean hinge?)',
  ],
])("%s", (line, message) => {
  expect(problems(`${REQUIRED}${line}\n`)).toEqual([message]);
});

test.each([
  ["betta: 1", "unknown key betta; did you mean beta?"],
  ["BETA: 1", "unknown key BETA; did you mean beta?"],
  ["learning-rate: 1", "unknown key learning-rate; did you mean learning_rate?"],
  ["lr: 1", "unknown key lr; did you mean learning_rate?"],
  ["model_name_or_path: x", "unknown key model_name_or_path; did you mean model?"],
  ["lora_r: 8", "unknown key lora_r; did you mean lora.r?"],
  ["target_modules: [q_proj]", "unknown key target_modules; did you mean lora.target_modules?"],
  ["r: 8", "unknown key r; did you mean lora.r?"],
  ["lora.r: 8", "unknown key lora.r; in a file write r under lora"],
  ["exports: {}", "unknown key exports; did you mean export?"],
  ["gradient_clipping: true", "unknown key gradient_clipping"],
  ["__proto__: {polluted: true}", "unknown key __proto__"],
  ["constructor: 1", "unknown key constructor"],
  ["toString: 1", "unknown key toString"],
  ["'': 1", "unknown key "],
  ["1: a", "unknown key 1"],
  ["null: a", "unknown key null"],
  ['"\\e]0;own\\a": 1', "unknown key \\u001b]0;own\\u0007"],
  ['"\\u202etxt": 1', "unknown key \\u202etxt"],
])("%s", (line, message) => {
  expect(problems(`${REQUIRED}${line}\n`)).toEqual([`c.yaml:3:1: ${message}`]);
  expect(Object.hasOwn(Object.prototype, "polluted")).toBe(false);
});

test.each([
  ["alpha: 8", "unknown key lora.alpha; did you mean lora.lora_alpha?"],
  ["rank: 8", "unknown key lora.rank; did you mean lora.r?"],
  ["beta: 8", "unknown key lora.beta; did you mean beta?"],
  ["use_rslora: true", "unknown key lora.use_rslora"],
  ["__proto__: 8", "unknown key lora.__proto__"],
])("lora: {%s}", (setting, message) => {
  expect(problems(`${REQUIRED}lora: {${setting}}\n`)).toEqual([`c.yaml:3:8: ${message}`]);
});

test.each(["token: hf_SECRET", "api_key: [hf_SECRET]", "hub: {token: hf_SECRET}", "lora: {token: hf_SECRET}"])(
  "the value of an unknown key is not shown: %s",
  (line) => {
    const shown = problems(`${REQUIRED}${line}\n${line}\n`, "token=hf_SECRET", "lora.api_key=hf_SECRET", "=hf_S");
    expect(shown.length).toBeGreaterThan(3);
    expect(shown.join("\n")).not.toContain("SECRET");
  },
);

test("broken YAML does not show the text at which it breaks", () => {
  const lines = [
    "] hf_SECRET",
    'token: "a" hf_SECRET',
    "token: @hf_SECRET",
    "token: [a]hf_SECRET",
    "token: {a: 1}} hf_SECRET",
  ];
  for (const line of lines) {
    const shown = problems(`${REQUIRED}${line}\n`);
    expect(shown[0]).toMatch(/^c\.yaml:3:\d+: /);
    expect(shown.join("\n")).not.toContain("SECRET");
  }
});

test("a value is shown escaped and cut", () => {
  expect(problems(`${REQUIRED}beta: "\\e[31m${"x".repeat(100)}"\n`)).toEqual([
    `c.yaml:3:7: beta must be a number above 0, got "\\u001b[31m${"x".repeat(55)}…"`,
  ]);
});

test("missing settings are named with what they must be", () => {
  expect(problems("beta: 1\n")).toEqual([
    "c.yaml:1:1: model is required: a model folder or a Hugging Face Hub id",
    "c.yaml:1:1: dataset is required: a .jsonl, .json, .csv or .parquet file, a folder of these, or a Hugging Face Hub id",
  ]);
});

test("all mistakes are reported at once, in order of position, each once", () => {
  const text = [
    "# a config of mistakes",
    "dataset: 5",
    "betta: 0.1",
    "beta: x",
    "lora:",
    "  r: 0",
    "  target_modules: [q_proj, q_proj]",
    "loss_type: hinge",
    "label_smoothing: 0.1",
    "num_train_epochs: 1",
    "max_steps: 5",
    "report_to: all",
    "beta: 0.2",
  ].join("\n");
  expect(problems(text, "seed=-1", "foo=1").map((line) => line.slice(0, 44))).toEqual([
    "c.yaml:2:1: model is required: a model folde",
    "c.yaml:2:10: dataset must be a .jsonl, .json",
    "c.yaml:3:1: unknown key betta; did you mean ",
    "c.yaml:4:7: beta must be a number above 0, g",
    "c.yaml:6:6: lora.r must be a whole number fr",
    "c.yaml:7:28: lora.target_modules names q_pro",
    "c.yaml:9:18: label_smoothing has no effect w",
    "c.yaml:11:12: max_steps and num_train_epochs",
    "c.yaml:12:1: report_to: all, azure_ml, clear",
    "c.yaml:13:1: duplicate key beta: already set",
    "--set seed: seed must be a whole number from",
    "--set foo: unknown key foo",
  ]);
});

test("of a great many mistakes the first are reported and the rest is counted", () => {
  const lines = problems(REQUIRED + Array.from({ length: 60 }, (_, i) => `unknown_${i}_key: 1\n`).join(""));
  expect(lines).toHaveLength(51);
  expect(lines.at(-1)).toBe("and 10 more mistakes");
});

test("list", () => {
  expect([list([], "or"), list(["a"], "or"), list(["a", "b"], "and"), list(["a", "b", "c"], "or")]).toEqual([
    "",
    "a",
    "a and b",
    "a, b or c",
  ]);
});

test.each([
  ["", "", 0],
  ["beta", "beta", 0],
  ["beta", "", 4],
  ["", "beta", 4],
  ["beta", "bta", 1],
  ["beta", "betta", 1],
  ["beta", "beat", 1],
  ["kitten", "sitting", 3],
])("editDistance(%j, %j) = %i", (a, b, distance) => {
  expect(editDistance(a, b)).toBe(distance);
  expect(editDistance(b, a)).toBe(distance);
});

test("closest does not guess where a word is not close, and does not measure endless words", () => {
  expect(closest("token", ["beta", "model"])).toBeUndefined();
  expect(closest("x".repeat(1_000_000), ["beta"])).toBeUndefined();
  expect(closest("seeed", ["speed", "seed"])).toBe("speed");
});
