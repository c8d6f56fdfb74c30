import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { CONFIG_SCHEMA_PATH, configSchemaText } from "../../scripts/config-schema.ts";
import { parseConfig } from "../../src/config/load.ts";
import { parseSweep } from "../../src/config/sweep.ts";
import { isValid } from "./json-schema-validator.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const SCHEMA = JSON.parse(readFileSync(CONFIG_SCHEMA_PATH, "utf8"));
const CONFIGS = readdirSync(`${ROOT}configs`).filter((name) => name.endsWith(".yaml"));
const REQUIRED = "model: m\ndataset: d\n";

const valid = (text: string) => isValid(SCHEMA, parse(text));

test("configs/schema.json is what the code says: npx tsx scripts/config-schema.ts", () => {
  expect(readFileSync(CONFIG_SCHEMA_PATH, "utf8")).toBe(configSchemaText());
});

test("the package carries it", () => {
  const { files } = JSON.parse(readFileSync(`${ROOT}package.json`, "utf8"));
  expect(files).toContain("configs");
});

describe.each(CONFIGS)("configs/%s", (name) => {
  const text = readFileSync(`${ROOT}configs/${name}`, "utf8");

  test("names the schema by a path from itself", () => {
    const [, schema] = /^# yaml-language-server: \$schema=(\S+)$/m.exec(text)!;
    expect(path.resolve(`${ROOT}configs`, schema!)).toBe(path.resolve(CONFIG_SCHEMA_PATH));
  });

  test("is valid", () => expect(valid(text)).toBe(true));
});

/** Whether the code takes a config, as a run or as a sweep. */
function loads(text: string): boolean {
  const read = /^sweep:/m.test(text) ? parseSweep : parseConfig;
  try {
    read(text, "c.yaml");
    return true;
  } catch {
    return false;
  }
}

// What is wrong with the second kind is for an editor to find: the schema must see it, not only the code.
test.each([
  "loss_type: [sigmoid, sft]\nlora: {r: 4}",
  "loss_type: sigmoid",
  "warmup_ratio: 0.1",
  "max_steps: 5",
  "columns: {prompt: question}",
  "push_to_hub: ada/llama",
  "push_to_hub: {repo: ada/llama, private: false, what: adapter}",
  "eval_dataset: e\neval_strategy: steps\neval_steps: 0.2",
  "sweep: {grid: {beta: [0.1, 0.5], lora.r: [8, 16]}}",
  "sweep: {grid: {max_steps: [null, 5]}}",
  "num_train_epochs: 1\nsweep: {grid: {max_steps: [2, 5]}}",
  "sweep: {grid: {lora.target_modules: [[q_proj], [q_proj, v_proj]]}}",
  "sweep: {grid: {loss_type: [sigmoid, [hinge]]}}",
  "sweep: {random: {beta: {log_uniform: [0.01, 1]}, seed: [1, 2], lora.r: {choice: [4, 8]}}, count: 2}",
  "sweep: {random: {weight_decay: {uniform: [0, 1]}}, count: 2, seed: 3}",
  "sweep: {runs: [{beta: 0.1}, {beta: 0.5, seed: 7}, {seed: 7, beta: 0.5}]}",
  "eval_dataset: e\nsweep: {grid: {beta: [1]}, metric: eval_rewards/accuracies}",
])("takes what the code takes: %s", (lines) => {
  const text = `${REQUIRED}${lines}\n`;
  expect({ loads: loads(text), valid: valid(text) }).toEqual({ loads: true, valid: true });
});

test("a sweep may go over the model", () => {
  const text = "dataset: d\nsweep: {grid: {model: [a, b]}}\n";
  expect({ loads: loads(text), valid: valid(text) }).toEqual({ loads: true, valid: true });
});

test.each([
  "betta: 0.5",
  "beta: 0",
  "beta: '0.5'",
  "learning_rate: 2e-6x",
  "lora: {r: 0}",
  "lora: {rank: 8}",
  "loss_type: dpo",
  "loss_type: []",
  "max_length: 1",
  "eval_strategy: never",
  "load_in_4bit: yes",
  "lora: {target_modules: [lm_head]}",
  "export: {max_shard_size: 5 GB}",
  "push_to_hub: true",
  "push_to_hub: {repo: ada/llama, what: both}",
  "push_to_hub: {repo: ada/llama, branch: v2}",
  "sweep: {grid: {push_to_hub.private: [true]}}",
  "max_steps: 5\nnum_train_epochs: 1",
  "eval_dataset: e\ntest_size: 0.1",
  "sweep: {}",
  "sweep: {gird: {beta: [0.1]}}",
  "sweep: {grid: {beta: 0.1}}",
  "sweep: {grid: {beta: []}}",
  "sweep: {grid: {}}",
  "sweep: {grid: {bta: [0.1]}}",
  "sweep: {grid: {beta: [-1]}}",
  "sweep: {grid: {beta: [0.1, 0.1]}}",
  "sweep: {grid: {output_dir: [a, b]}}",
  "sweep: {grid: {export.merged_16bit: [true]}}",
  "sweep: {grid: {beta: [0.1]}, count: 3}",
  "sweep: {grid: {beta: [0.1]}, random: {beta: [0.1]}, count: 1}",
  "sweep: {random: {beta: [0.1]}}",
  "sweep: {random: {beta: {normal: [1, 2]}}, count: 2}",
  "sweep: {random: {beta: {log_uniform: [0, 1]}}, count: 2}",
  "sweep: {random: {beta: {uniform: [1]}}, count: 2}",
  "sweep: {runs: [0.1]}",
  "eval_dataset: e\nsweep: {grid: {beta: [0.1]}, metric: accuracy}",
])("refuses what the code refuses: %s", (lines) => {
  const text = `${REQUIRED}${lines}\n`;
  expect({ loads: loads(text), valid: valid(text) }).toEqual({ loads: false, valid: false });
});

test.each(["dataset: d\n", "model: m\n", "[]\n", "text\n"])("needs model and dataset: %j", (text) => {
  expect({ loads: loads(text), valid: valid(text) }).toEqual({ loads: false, valid: false });
});
