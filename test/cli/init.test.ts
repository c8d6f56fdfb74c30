import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { CONFIG_SCHEMA_PATH } from "../../scripts/config-schema.ts";
import { suggestConfig } from "../../src/cli/init.ts";
import { parseConfig } from "../../src/config/load.ts";
import { createTerminal } from "../../src/terminal.ts";
import { isValid } from "../config/json-schema-validator.ts";
import { temporaryFolder } from "../weights/fixtures.ts";
import { dpoTrain } from "./process.ts";

const MODEL = "test/golden/models/f16-one-kv";
const CHAT_MODEL = "test/golden/models/gqa-llama3";
const SCHEMA = JSON.parse(await readFile(CONFIG_SCHEMA_PATH, "utf8"));

async function suggest(model: string, dataset: string, ...set: string[]) {
  const terminal = createTerminal({ isTTY: false, columns: 80, write: () => {} });
  const text = await suggestConfig({ model, dataset, set }, terminal, new AbortController().signal);
  expect(isValid(SCHEMA, parse(text)), text).toBe(true);
  return { text, config: parseConfig(text, "my.yaml") };
}

/** A file with so many rows. */
async function rowsFile(count: number, row: (i: number) => object): Promise<string> {
  const file = join(await temporaryFolder(), "rows.jsonl");
  await writeFile(file, Array.from({ length: count }, (_, i) => `${JSON.stringify(row(i))}\n`).join(""));
  return file;
}

const textRow = (i: number) => ({ prompt: `Question ${i}?`, chosen: `Answer ${i}.`, rejected: `No ${i}.` });

it("writes a config that --dry-run takes, and never over a file", async () => {
  const file = join(await temporaryFolder(), "my.yaml");
  const dataset = "examples/twin-tiny/data/llmtwin-train.jsonl";
  const args = ["init", "--model", "examples/twin-tiny/model", "--dataset", dataset, "--out", file];
  const written = await dpoTrain(args);
  expect(written).toMatchObject({ code: 0, stdout: "" });
  expect(written.stderr).toBe(`wrote ${file}; look what it does: dpo-train --config ${file} --dry-run\n`);

  const text = await readFile(file, "utf8");
  expect(parse(text)).toMatchObject({ dataset, prompt_template: "alpaca", max_length: 128, test_size: 0.1 });
  const dryRun = await dpoTrain(["--config", file, "--dry-run"]);
  expect(dryRun).toMatchObject({ code: 0, stderr: "" });
  // What the comments say is what the run does.
  expect(text).toContain("7 steps of 66.");
  expect(dryRun.stdout).toMatch(/steps +66, 22 to an epoch\n +warm-up +7 steps/);

  const again = await dpoTrain(args);
  expect(again).toMatchObject({ code: 2, stderr: `dpo-train: --out ${file} is there already: give another name\n` });
  expect(await readFile(file, "utf8")).toBe(text);

  const printed = await dpoTrain(args.slice(0, -2));
  expect(printed).toMatchObject({ code: 0, stderr: "" });
  expect(parse(printed.stdout)).toEqual(parse(text));
}, 60_000);

it("explains every key in one line above it, and every line has room on a screen", async () => {
  const { text } = await suggest(CHAT_MODEL, "test/golden/data/messages-train.jsonl");
  const lines = text.split("\n");
  for (const [i, line] of lines.entries()) {
    expect(line.length).toBeLessThan(170);
    if (/^ *[a-z_0-9]+:( |$)/.test(line) && line !== "lora:") expect(lines[i - 1]).toMatch(/^ *# .+\.$/);
  }
});

describe("the data decide", () => {
  it("on messages for the chat template", async () => {
    const { config } = await suggest(CHAT_MODEL, "test/golden/data/messages-train.jsonl");
    expect(config.prompt_template).toBe("chat");
  });

  it("on the chat template for text where the model has one, and alpaca where it has none", async () => {
    const rows = await rowsFile(3, textRow);
    expect((await suggest(CHAT_MODEL, rows)).config.prompt_template).toBe("chat");
    expect((await suggest(MODEL, rows)).config.prompt_template).toBe("alpaca");
  });

  it("on no template where the prompts have one already", async () => {
    const rows = await rowsFile(3, (i) => ({ ...textRow(i), prompt: `[INST] Question ${i}? [/INST]` }));
    expect((await suggest(CHAT_MODEL, rows)).config.prompt_template).toBe("none");
  });

  it("on how many rows are held out, and how long the run is", async () => {
    const of = async (count: number) => (await suggest(MODEL, await rowsFile(count, textRow))).config;
    const [one, few, some, many] = [await of(1), await of(39), await of(40), await of(3000)];
    expect([one, few, some, many].map(({ test_size }) => test_size)).toEqual([undefined, undefined, 0.1, 0.03]);
    expect([one, few, some, many].map(({ eval_strategy }) => eval_strategy)).toEqual(["no", "no", "steps", "steps"]);
    expect([one, few, many].map(({ num_train_epochs }) => num_train_epochs)).toEqual([3, 3, 1]);
    expect(one).toMatchObject({ per_device_train_batch_size: 1, gradient_accumulation_steps: 1 });
    expect(many).toMatchObject({ per_device_train_batch_size: 2, gradient_accumulation_steps: 8 });
  });

  it("on the test split of a folder that has one", async () => {
    const folder = await temporaryFolder();
    await mkdir(join(folder, "data"));
    const rows = `${JSON.stringify(textRow(1))}\n`;
    await writeFile(join(folder, "data", "train.jsonl"), rows.repeat(50));
    expect((await suggest(MODEL, folder)).config).toMatchObject({ test_size: 0.1 });
    await writeFile(join(folder, "data", "test.jsonl"), rows);
    const { config } = await suggest(MODEL, folder);
    expect(config).toMatchObject({ eval_dataset: folder, dataset: folder, eval_strategy: "steps" });
    expect(config.test_size).toBeUndefined();
    const asked = await suggest(MODEL, folder, "test_size=0.2");
    expect(asked.config).toMatchObject({ test_size: 0.2, eval_strategy: "steps" });
    expect(asked.config.eval_dataset).toBeUndefined();
  });

  it("on a length that cuts nothing, or no more than the model's context", async () => {
    const short = await suggest(MODEL, await rowsFile(2, textRow));
    expect(short.config.max_length % 64).toBe(0);
    expect(short.text).toContain("nothing is cut");
    const long = await suggest(
      MODEL,
      await rowsFile(2, (i) => ({ ...textRow(i), chosen: "word ".repeat(i === 0 ? 1 : 5000) })),
    );
    const { max_position_embeddings: context } = JSON.parse(await readFile(`${MODEL}/config.json`, "utf8"));
    expect(long.config.max_length).toBe(context);
    expect(long.text).toContain("what is longer is cut, in 1 row.");
  });
});

describe("what --set says", () => {
  it("is written as it is said, with what the key is for", async () => {
    const { text, config } = await suggest(
      MODEL,
      await rowsFile(3, textRow),
      "beta=0.5",
      "lora.target_modules=[q_proj]",
      "max_steps=7",
      "warmup_steps=1",
      "seed=9",
      "export={dtype: float16}",
    );
    expect(config).toMatchObject({ beta: 0.5, max_steps: 7, warmup_steps: 1, seed: 9 });
    expect(config.lora).toMatchObject({ r: 16, target_modules: ["q_proj"] });
    expect(config.export.dtype).toBe("float16");
    expect(text).toContain("# The projections that get an adapter.\n  target_modules:");
  });

  it("must fit the rest, and be a setting", async () => {
    const rows = await rowsFile(3, textRow);
    await expect(suggest(MODEL, rows, "bta=0.5")).rejects.toThrow("did you mean beta?");
    await expect(suggest(MODEL, rows, "eval_steps=0.5")).rejects.toThrow("eval_steps");
  });
});

describe("refuses", () => {
  it.each([
    [["--model", MODEL], "required option '--dataset <data>' not specified"],
    [["--dataset", "rows.jsonl"], "required option '--model <folder or id>' not specified"],
    [["--model", MODEL, "--dataset", "nowhere.jsonl"], "nowhere.jsonl"],
    [["--model", "nowhere/at/all", "--dataset", "test/golden/data/plain-train.jsonl"], "nowhere/at/all"],
    [
      ["--model", "test/golden/models/f16-one-kv", "--dataset", "test/golden/data/messages-train.jsonl"],
      "chat template",
    ],
  ])("%j", async (args, message) => {
    const { code, stdout, stderr } = await dpoTrain(["init", ...args]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain(message);
    expect(stderr).not.toContain("    at ");
  });

  it("names that a terminal would obey", async () => {
    const { code, stderr } = await dpoTrain(["init", "--model", "a\u001b[2J", "--dataset", "d.jsonl"]);
    expect(code).toBe(2);
    expect(stderr).not.toContain("\u001b");
  });
});
