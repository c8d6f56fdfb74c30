import { existsSync } from "node:fs";
import { cp, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { TEST_DEVICE } from "../device.ts";
import { rootPath } from "../model/golden-model.ts";
import { dpoTrain, pretendTerminal, start } from "./process.ts";
import { MODEL, prepareTraining, ROWS, set, type Training, train } from "./training.ts";

/** Faults that the run finds before it opens a device: exit code 2, one message, and nothing written. */
async function expectRefused(training: Training, args: readonly string[], message: string | RegExp): Promise<void> {
  const { code, stdout, stderr } = await train(training, args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  if (typeof message === "string") expect(stderr).toBe(`dpo-train: ${message}\n`);
  else expect(stderr).toMatch(message);
  expect(stderr).not.toContain("    at ");
  expect(existsSync(training.output)).toBe(false);
}

describe("bad input", () => {
  it("in the config: every mistake at once, with line and column", async () => {
    const training = await prepareTraining("betta: 0.1\nbeta: -1\nlabel_smoothing: 0.1\nloss_type: hinge\nseed: [\n");
    const place = training.config;
    const text = await readFile(place, "utf8");
    await writeFile(place, text.replace("seed: [\n", "seed: one\n"));
    const lines = text.split("\n");
    const at = (key: string) => lines.findIndex((line) => line.startsWith(`${key}:`)) + 1;
    await expectRefused(
      training,
      [...set({ "lora.r": 0 })],
      [
        `${place}:${at("betta")}:1: unknown key betta; did you mean beta?`,
        `${place}:${at("beta")}:7: beta must be a number above 0, got -1`,
        `${place}:${at("label_smoothing")}:18: label_smoothing has no effect with loss_type hinge: it needs loss_type sigmoid, exo_pair, robust, aot or aot_unpaired`,
        `${place}:${at("seed")}:7: seed must be a whole number from 0 to 4294967295, got "one"`,
        "--set lora.r: lora.r must be a whole number from 1 to 1024, got 0",
      ].join("\n"),
    );
  });

  it("in the data: every row by file and line", async () => {
    const training = await prepareTraining();
    const rows = join(training.folder, "rows.jsonl");
    await writeFile(rows, `${await readFile(rootPath(ROWS), "utf8")}{"prompt": "a"}\n\n{"prompt": "a", \n`);
    await expectRefused(
      training,
      set({ dataset: rows, model: "no/such-model" }), // Before the model, which may be a download.
      new RegExp(
        "^dpo-train: 2 rows of the data cannot be used; correct or remove them\\.\\n" +
          `${rows}:10: chosen must be text or a list of messages, found nothing\\n${rows}:12: must be one JSON object, .*\\n$`,
      ),
    );
  });

  it.each([
    [
      { dataset: "nowhere.jsonl" },
      `dataset "nowhere.jsonl" does not exist: give an existing file or folder (a relative path `,
    ],
    [{ dataset: "kernels" }, 'dataset "kernels" holds no .jsonl, .json, .csv, .tsv and .parquet files'],
    [{ dataset_config: "x" }, `dataset_config has no effect on "${ROWS}", which is one file: remove dataset_config`],
    [{ eval_dataset: "nowhere.json" }, `eval_dataset "nowhere.json" does not exist: give an existing file or folder `],
    [{ model: "./nowhere" }, `model "./nowhere" does not exist: give an existing folder `],
    [{ model: "test/golden" }, `${rootPath("test/golden")}: must be a model folder with a config.json, found none`],
    [{ init_adapter: "nowhere" }, "nowhere: cannot open a PEFT adapter folder: no such file or directory"],
    [
      { max_length: 12 },
      `${ROWS}: no row is left: the prompt alone of each fills max_length 12 (${ROWS}:1: 133 tokens); `,
    ],
    [
      { output_dir: "package.json" },
      "output_dir package.json must be a folder, found a file; choose another with --set",
    ],
    [{ output_dir: "package.json/run" }, "output_dir package.json/run must be a folder, found a file; choose another"],
    [{ output_dir: "test" }, "output_dir test must be empty or not exist, found "],
  ])("%j", async (settings, message) => {
    await expectRefused(
      await prepareTraining(),
      set(settings),
      new RegExp(`^dpo-train: ${message.replace(/[.()]/g, "\\$&")}`),
    );
  });

  it.each([
    [["--precision", "f64"], '--precision must be auto, f32 or f16, got "f64"'],
    [["--device-memory", "1.5GB"], '--device-memory must be a size such as 24GB or 8GiB, got "1.5GB"'],
    [["--set", "beta"], "--set beta: must be KEY=VALUE"],
  ])("%j", async (args, message) => {
    await expectRefused(await prepareTraining(), args, message);
  });

  it("a data set on the Hub that is not in the cache, without the network", async () => {
    const { output } = await prepareTraining();
    const { code, stdout, stderr } = await dpoTrain(
      ["--config", "configs/twin.yaml", "--dry-run", ...set({ output_dir: output })],
      { environment: { HF_HUB_OFFLINE: "1", HF_HOME: output } },
    );
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toBe(
      "dpo-train: dataset mlabonne/llmtwin-dpo is no local file or folder, HF_HUB_OFFLINE forbids the network, and the " +
        `cache ${output}/hub has not all of its files at revision "main": unset HF_HUB_OFFLINE, or give local files\n`,
    );
  });
});

describe("damaged model files", () => {
  /** A copy of the model in the training's folder, with its weight file's bytes changed. */
  async function damagedModel(training: Training, damage: (weights: Buffer) => Uint8Array): Promise<string> {
    const model = join(training.folder, "model");
    await cp(rootPath(MODEL), model, { recursive: true });
    const weights = join(model, "model.safetensors");
    await writeFile(weights, damage(await readFile(weights)));
    return model;
  }

  it("weights that are cut short", async () => {
    const training = await prepareTraining();
    const model = await damagedModel(training, (weights) => weights.subarray(0, 50_000));
    await expectRefused(
      training,
      set({ model }),
      `${model}/model.safetensors: the header declares a file of 79992 bytes, found 50000 (the file is cut short); fetch the file again`,
    );
  });

  it("weights that are not finite, found while a status stands on the terminal", async () => {
    const training = await prepareTraining();
    // The last tensor of the file is the final norm.
    const model = await damagedModel(training, (weights) =>
      Buffer.concat([weights.subarray(0, -2), Buffer.of(0, 0x7e)]),
    );
    const { code, stdout, stderr } = await train(training, set({ model }), { node: [pretendTerminal("stdout")] });
    expect(code).toBe(4);
    expect(stderr).toContain(
      "dpo-train: the base model's log-probabilities of pair 0 are not finite: its weights are damaged, or overflow float32\n",
    );
    expect(stdout.slice(-60)).toMatch(/reference log-probabilities: \d+ of 13 pairs\r.\[J$/);
    expect(existsSync(training.output)).toBe(false);
  });

  it("an adapter to start from that is not finite", async () => {
    const training = await prepareTraining();
    const adapter = join(training.folder, "adapter");
    await cp(rootPath("test/golden/runs/f16-one-kv-gate/final_adapter"), adapter, { recursive: true });
    const weights = join(adapter, "adapter_model.safetensors");
    await writeFile(weights, Buffer.concat([(await readFile(weights)).subarray(0, -4), Buffer.of(0, 0, 0xc0, 0x7f)]));
    await expectRefused(
      training,
      set({ init_adapter: adapter, "lora.r": 5, "lora.lora_alpha": 10, "lora.target_modules": "[gate_proj]" }),
      new RegExp(
        `^dpo-train: ${weights}: ".*" must hold finite values, found NaN at element \\d+ \\(1 such values\\)\n$`,
      ),
    );
  });
});

it("an unknown device has an exit code of its own, and the message lists what there is", async () => {
  const training = await prepareTraining();
  const { code, stderr } = await train(training, ["--device", "no such card"]);
  expect(code).toBe(3);
  expect(stderr).toMatch(/^dpo-train: --device no such card matches no adapter; there are: ".+"$/m);
  expect(existsSync(training.output)).toBe(false);
});

it("a loss that is not finite stops before the update, and leaves no adapter", async () => {
  const training = await prepareTraining();
  const { code, stdout, stderr } = await train(training, set({ learning_rate: "3e38" }));
  expect(code).toBe(4);
  expect(stderr).toMatch(
    /^dpo-train: step 2: the log-probability of test\/golden\/data\/plain-train\.jsonl:\d is not finite \(.*\); of the adapter's weights the first that is not finite is in layers\.0\.self_attn\.q_proj\.lora_A \(NaN at element 0\); nothing was updated\. A lower learning_rate/m,
  );
  expect(stdout).toMatch(/^step 1\/3 .*\nreport: .*\n$/m);
  expect((await readdir(training.output)).sort()).toEqual([
    "config.yaml",
    "metrics.jsonl",
    "performance.jsonl",
    "report.html",
    "run.json",
  ]);
  const metrics = await readFile(join(training.output, "metrics.jsonl"), "utf8");
  expect(
    metrics
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line).step),
  ).toEqual([1]);
  expect(JSON.parse(await readFile(join(training.output, "run.json"), "utf8"))).toMatchObject({
    status: "failed",
    steps_done: 1,
    error: /^dpo-train: (.*)$/m.exec(stderr)![1],
  });
});

describe("a full disk", () => {
  it.each([
    ["config.yaml", "config.yaml", null, undefined],
    [
      "metrics.jsonl",
      "metrics.jsonl",
      ["config.yaml", "metrics.jsonl", "performance.jsonl", "report.html", "run.json"],
      1,
    ],
    [
      "performance.jsonl",
      "performance.jsonl",
      ["config.yaml", "metrics.jsonl", "performance.jsonl", "report.html", "run.json"],
      1,
    ],
    [
      ".merged",
      ".merged.*/model.safetensors",
      ["adapter", "checkpoints", "config.yaml", "metrics.jsonl", "performance.jsonl", "report.html", "run.json"],
      3,
    ],
  ])("at %s", async (name, path, left, stepsDone) => {
    const training = await prepareTraining();
    const { code, stderr } = await train(training, [], {
      node: ["--import", rootPath("test/cli/full-disk.mjs")],
      environment: { FULL_DISK: name },
    });
    expect(code).toBe(2);
    const file = `${training.output}/${path}`.replaceAll(".", "\\.").replace("*", "\\w+\\.partial");
    expect(stderr).toMatch(
      new RegExp(`^dpo-train: ${file}: cannot write: no space left on device(; the last checkpoint is .*)?\n$`, "m"),
    );
    expect((await readdir(training.output).catch(() => null))?.sort() ?? null).toEqual(left);
    if (stepsDone === undefined) return;
    const run = JSON.parse(await readFile(join(training.output, "run.json"), "utf8"));
    expect(run).toMatchObject({ status: "failed", steps_done: stepsDone });
  });
});

it("a reader of standard output that leaves does not end the training", async () => {
  const training = await prepareTraining("export: {merged_16bit: false}\n");
  const child = start(["--device", TEST_DEVICE, "--config", training.config]);
  child.stdout!.once("data", () => child.stdout!.destroy());
  const code = await new Promise((resolve) => child.on("exit", resolve));
  expect(code).toBe(0);
  expect(JSON.parse(await readFile(join(training.output, "run.json"), "utf8"))).toMatchObject({ status: "done" });
});

/** What a terminal could obey: control characters but for the line feed, C1 and bidirectional ones. */
const HOSTILE = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/u;
const EVIL = "\u001b]0;owned\u0007\u001b[31m \u009b2J \u202eevil\u202c \u2066\u2028\u200f\ufeff";

describe("hostile text never reaches the terminal", () => {
  function expectHarmless(text: string): void {
    expect(text.replaceAll("\n", "")).not.toMatch(HOSTILE);
    expect(text).toContain("\\u202e");
  }

  it("of rows, samples and the names of files", async () => {
    const training = await prepareTraining(`export: {merged_16bit: false}\nsample_max_new_tokens: 2\n`);
    const rows = join(training.folder, "rows\u202e.jsonl");
    const row = { prompt: EVIL, chosen: `yes ${EVIL}`, rejected: `no ${EVIL}\r\n` };
    await writeFile(rows, `${JSON.stringify(row)}\n`);
    const output = join(training.folder, "run\u202e");
    const settings = set({
      dataset: rows,
      eval_dataset: rows,
      output_dir: output,
      sample_prompt: JSON.stringify(EVIL),
    });
    const { code, stdout, stderr } = await train(training, settings);
    expect(code).toBe(0);
    expect(stderr).not.toMatch(/[^\n\P{Cc}]/u);
    expectHarmless(stdout);
    expect(stdout).toContain("\\u001b]0;owned\\u0007\\u001b[31m \\u009b2J \\u202eevil\\u202c");
    expect(stdout).toContain("/run\\u202e/adapter");
  });

  it("of mistakes", async () => {
    const training = await prepareTraining();
    const rows = join(training.folder, "rows\u202e.jsonl");
    await writeFile(rows, `${EVIL}\n{"prompt": "${EVIL}"\n{"chosen": ${JSON.stringify(EVIL)}}\n`);
    const config = join(training.folder, `${EVIL.replaceAll("/", "")}.yaml`);
    await writeFile(config, `model: ${JSON.stringify(EVIL)}\n${JSON.stringify(EVIL)}: 1\ndataset: x\n`);
    for (const args of [
      ["--config", training.config, ...set({ dataset: rows })],
      ["--config", config],
      ["--config", training.config, ...set({ [EVIL]: 1 })],
      ["--config", training.config, ...set({ model: "./\u202e" })],
      ["--config", training.config, ...set({ output_dir: "package.json/\u202e" })],
      ["--config", training.config, "--precision", EVIL],
      ["--config", `${config}.none`],
      [`--${EVIL}`],
      [EVIL],
    ]) {
      const { code, stdout, stderr } = await dpoTrain(args);
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
      expectHarmless(stderr);
    }
  });
});

describe("a card that is too small", () => {
  it("is refused before the model is loaded: exit code 3, what would help, and nothing is written", async () => {
    const training = await prepareTraining();
    const { code, stdout, stderr } = await train(training, ["--device-memory", "10MB"]);
    expect(code).toBe(3);
    expect(stdout).not.toContain("loaded");
    expect(stderr).toMatch(
      /^dpo-train: the run needs \d+\.\d MB of GPU memory, keeping only the inputs of the layers with \d+ tokens in a GPU batch, and 9\.6 MB may be used: /m,
    );
    expect(stderr).not.toContain("    at ");
    expect(existsSync(training.output)).toBe(false);
  });
});
