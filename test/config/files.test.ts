import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { CONFIG_DOCS_PATH, configDocs } from "../../scripts/config-docs.ts";
import { dumpConfig } from "../../src/config/dump.ts";
import { configJsonSchema } from "../../src/config/json-schema.ts";
import { requirementOf, SETTING_KEYS } from "../../src/config/keys.ts";
import { loadConfig, parseConfig } from "../../src/config/load.ts";
import { TARGET_MODULES } from "../../src/config/names.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const FILES = readdirSync(`${ROOT}configs`, { recursive: true, encoding: "utf8" }).filter((name) =>
  /\.ya?ml$/.test(name),
);
const RECIPE = {
  beta: 0.5,
  loss_type: ["sigmoid"],
  prompt_template: "alpaca",
  lr_scheduler_type: "linear",
  per_device_train_batch_size: 2,
  gradient_accumulation_steps: 8,
  num_train_epochs: 1,
  optim: "adamw_8bit",
  weight_decay: 0.01,
  max_grad_norm: 1,
  eval_strategy: "steps",
  seed: 0,
};

test("both recipes are there", () => {
  expect(FILES).toEqual(expect.arrayContaining(["twin.yaml", "twin-tiny.yaml"]));
});

describe.each(FILES)("configs/%s", (name) => {
  const path = `${ROOT}configs/${name}`;

  test("loads, and loads back from what it resolves to", () => {
    const { config } = loadConfig(path);
    expect(parseConfig(dumpConfig(config), "config.yaml")).toEqual(config);
  });

  test("is valid by the JSON schema", () => {
    const schema = z.fromJSONSchema(configJsonSchema());
    expect(schema.safeParse(parse(readFileSync(path, "utf8"))).error).toBeUndefined();
  });

  test("means the same to a reader of YAML 1.1", () => {
    const text = readFileSync(path, "utf8");
    expect(parse(text, { version: "1.1" })).toEqual(parse(text));
  });
});

test("twin.yaml is the book's recipe", () => {
  expect(loadConfig(`${ROOT}configs/twin.yaml`).config).toMatchObject({
    ...RECIPE,
    model: "mlabonne/TwinLlama-3.1-8B",
    dataset: "mlabonne/llmtwin-dpo",
    test_size: 0.05,
    max_length: 1024,
    lora: { r: 32, lora_alpha: 32, lora_dropout: 0, target_modules: [...TARGET_MODULES] },
    learning_rate: 2e-6,
    warmup_steps: 10,
    eval_steps: 0.2,
    output_dir: "runs/twin",
  });
});

test("twin-tiny.yaml is the same recipe for the example", () => {
  expect(loadConfig(`${ROOT}configs/twin-tiny.yaml`).config).toMatchObject({
    ...RECIPE,
    model: "examples/twin-tiny/model",
    dataset: "examples/twin-tiny/data/llmtwin-train.jsonl",
    eval_dataset: "examples/twin-tiny/data/llmtwin-test.jsonl",
    max_length: 256,
    lora: { r: 16, lora_alpha: 16, lora_dropout: 0, target_modules: [...TARGET_MODULES] },
    max_train_samples: 256,
    learning_rate: 1e-3,
    warmup_steps: 2,
    eval_steps: 0.25,
    output_dir: "runs/twin-tiny",
  });
});

test("every key of twin.yaml has a comment of its own above it", () => {
  const lines = readFileSync(`${ROOT}configs/twin.yaml`, "utf8").split("\n");
  const unexplained = lines.filter((line, i) => {
    const isSetting = /^ *[a-z_0-9]+:/.test(line);
    // gradient_accumulation_steps and merged_16bit are explained together with the key above them.
    const above = lines[i - 1]?.trim() ?? "";
    return isSetting && !above.startsWith("#") && !/^(per_device_train_batch_size|export):/.test(above);
  });
  expect(unexplained).toEqual([]);
});

test("docs/config.md is what the schema says: npx tsx scripts/config-docs.ts", () => {
  expect(readFileSync(CONFIG_DOCS_PATH, "utf8")).toBe(configDocs());
});

test("docs/config.md explains every key in one line", () => {
  const rows = configDocs()
    .split("\n")
    .filter((line) => line.startsWith("| `") && !line.startsWith("| `sweep."));
  expect(rows.map((row) => row.split("`")[1])).toEqual(SETTING_KEYS);
  for (const row of rows) expect(row).toMatch(/^\| `\S+` \| [^|]+ \| [^|]* \| [^|]{15,} \|$/);
});

test("every setting says what it must be", () => {
  for (const key of SETTING_KEYS) expect(requirementOf(key)).toMatch(/^\S.*\S$/);
  expect(() => requirementOf("nothing")).toThrow("internal: the config key nothing has no requirement");
});

describe("the JSON schema", () => {
  const schema = z.fromJSONSchema(configJsonSchema());

  test.each([
    [{ model: "m", dataset: "d" }, true],
    [{ model: "m", dataset: "d", loss_type: ["sigmoid", "sft"], lora: { r: 4 } }, true],
    [{ model: "m" }, false],
    [{ model: "m", dataset: "d", betta: 1 }, false],
    [{ model: "m", dataset: "d", beta: 0 }, false],
    [{ model: "m", dataset: "d", beta: "0.5" }, false],
    [{ model: "m", dataset: "d", lora: { r: 0 } }, false],
    [{ model: "m", dataset: "d", lora: { rank: 8 } }, false],
    [{ model: "m", dataset: "d", loss_type: "dpo" }, false],
  ])("of %j says %s", (config, isValid) => {
    expect(schema.safeParse(config).success).toBe(isValid);
  });
});
