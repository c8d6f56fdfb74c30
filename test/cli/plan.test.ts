import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { rootPath } from "../model/golden-model.ts";
import { dpoTrain, type Ended } from "./process.ts";
import { MODEL, prepareTraining, set, type Training } from "./training.ts";

// A plan needs no device: here none can be opened.
const NO_DEVICE = [
  `--import=data:text/javascript,${encodeURIComponent('process.dlopen = () => { throw new Error("a native module was loaded"); };')}`,
];
const NO_VULKAN = { VK_DRIVER_FILES: "/nowhere.json", VK_ICD_FILENAMES: "/nowhere.json" };

function plan(config: string, ...args: string[]): Promise<Ended> {
  return dpoTrain(["plan", "--config", config, ...args], { node: NO_DEVICE, environment: NO_VULKAN });
}

async function planned(config: string, ...args: string[]) {
  const { code, stdout, stderr } = await plan(config, ...args, "--json");
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout);
}

async function expectRefused(ending: Promise<Ended>, exitCode: number, message: RegExp): Promise<void> {
  const { code, stdout, stderr } = await ending;
  expect({ code, stdout }).toEqual({ code: exitCode, stdout: "" });
  expect(stderr).toMatch(message);
  expect(stderr.trimEnd()).not.toContain("\n");
}

describe("dpo-train plan", () => {
  it("shows a table of what the run takes, and why", async () => {
    const { code, stdout, stderr } = await plan("configs/twin-tiny.yaml", "--device-memory", "1GB");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(
      /^examples\/twin-tiny\/model: 3\.96 million parameters, f16 matmuls\n\n16 optimizer steps on 256 pairs, 21 /,
    );
    expect(stdout).toMatch(
      /^a step: 1242 tokens, 32% fewer than .*, in 1 GPU batch of up to \d+; [\d.]+ billion floating-point operations$/m,
    );
    const table = [...stdout.matchAll(/^ {2}(\S.*?) {2,}([\d.]+) MB$/gm)].map(
      ([, name, size]) => [name, Number(size)] as const,
    );
    expect(table.map(([name]) => name)).toEqual([
      "base weights",
      "LoRA factors and their gradients",
      "optimizer state",
      "stored activations",
      "workspace of a layer",
      "head rows and a chunk of logits",
      "for a while: loading, sample, saving or export",
      "peak",
    ]);
    const sizes = table.map(([, size]) => size);
    const sum = sizes.slice(0, -1).reduce((total, size) => total + size, 0);
    expect(Math.abs(sum - sizes.at(-1)!)).toBeLessThan(0.5);
    expect(stdout).toMatch(
      /^- keeping all activations takes \d+\.\d MB of the 960\.0 MB that may be used, with \d+ tokens in a GPU batch$/m,
    );
  });

  it("--json: the same as numbers, equal to what a dry run says", async () => {
    const { output } = await prepareTraining();
    const found = await planned("configs/twin-tiny.yaml", "--precision", "f32");
    for (const name of ["peak_memory_bytes", "steps", "tokens_per_step", "flops_per_step", "batches_per_step"]) {
      expect([name, found[name] > 0]).toEqual([name, true]);
    }
    const parts = Object.values<number>(found.memory_bytes);
    expect(parts.reduce((sum, bytes) => sum + bytes, 0)).toBe(found.peak_memory_bytes);
    expect(found).toMatchObject({ precision: "f32", pairs: 256, evaluation_pairs: 21, assumptions: [] });
    const dry = await dpoTrain(["--config", "configs/twin-tiny.yaml", "--dry-run", ...set({ output_dir: output })]);
    expect(dry.stdout).toMatch(new RegExp(`^ {2}steps +${found.steps}, `, "m"));
  });

  it.each([
    [["--shape", "8b", "--device-memory", "24GB"], 24e9],
    [["--shape", "1b", "--device-memory", "6GB"], 6e9],
    [["--shape", "8b", "--device-memory", "10GB", ...set({ load_in_4bit: true })], 10e9],
  ])("the book's recipe: %j", async (args, limitBytes) => {
    const found = await planned("configs/twin.yaml", ...args);
    expect(found.peak_memory_bytes).toBeLessThanOrEqual(limitBytes);
    expect(found.peak_memory_bytes).toBeGreaterThan(0.5 * limitBytes);
    expect(found.assumptions[0]).toBe(
      "1000 pairs, as mlabonne/llmtwin-dpo cannot be read here (--pairs says how many)",
    );
    expect(found.steps).toBe(60); // 950 pairs.
  });

  it("ends with exit code 3 where it does not fit, with what would help", async () => {
    await expectRefused(
      plan("configs/twin.yaml", "--shape", "8b", "--device-memory", "12GB"),
      3,
      /^dpo-train: the run needs 1\d\.\d\d GB of GPU memory, .* and 11\.52 GB may be used: load_in_4bit=true saves \d+\.\d\d GB or max_length=512 saves \d/,
    );
  });
});

describe("a model of which there is", () => {
  /** A training with a copy of the model without some of its files. */
  async function without(...names: string[]): Promise<Training & { readonly model: string }> {
    const training = await prepareTraining();
    const model = join(training.folder, "model");
    await cp(rootPath(MODEL), model, { recursive: true });
    for (const name of names) await rm(join(model, name));
    return { ...training, model };
  }

  it("config.json and a tokenizer: everything is known", async () => {
    const { config, model } = await without("model.safetensors");
    const found = await planned(config, ...set({ model }));
    expect(found).toMatchObject({ model, steps: 3, pairs: 9, evaluation_pairs: 4, assumptions: [] });
    expect(await planned(config)).toEqual({ ...found, model: MODEL });
  });

  it("config.json alone: the pairs are counted, their lengths assumed", async () => {
    const { config, model } = await without("model.safetensors", "tokenizer.json");
    const found = await planned(config, ...set({ model, max_length: 100 }));
    expect(found).toMatchObject({ steps: 3, pairs: 9, evaluation_pairs: 4, tokens_per_step: 3 * 173 });
    expect(found.assumptions).toEqual([
      "every pair as long as max_length lets it be: a prompt of 25 tokens with answers of 75",
    ]);
  });

  it("config.json in the Hub's cache", async () => {
    const { config, folder } = await prepareTraining();
    const commit = "0123456789abcdef0123456789abcdef01234567";
    const repository = join(folder, "hub", "models--some--llama");
    await mkdir(join(repository, "snapshots", commit), { recursive: true });
    await mkdir(join(repository, "refs"));
    await writeFile(join(repository, "refs", "main"), commit);
    await cp(rootPath(`${MODEL}/config.json`), join(repository, "snapshots", commit, "config.json"));
    const args = ["plan", "--config", config, "--json", ...set({ model: "some/llama" })];
    const environment = { HF_HUB_CACHE: join(folder, "hub"), HF_HUB_OFFLINE: "1" };
    const { code, stdout } = await dpoTrain(args, { environment });
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ model: "some/llama", pairs: 9 });
  });

  it("nothing", async () => {
    const { config } = await prepareTraining();
    await expectRefused(
      plan(config, ...set({ model: "./nowhere" })),
      2,
      /^dpo-train: model \.\/nowhere is neither a local folder nor in the Hub's cache, and a plan downloads nothing: say its shape with --shape 135m\|1b\|/,
    );
    expect(await planned(config, "--shape", "1b", ...set({ model: "./nowhere" }))).toMatchObject({ model: "1b" });
  });
});

describe("bad input", () => {
  it.each([
    [["--shape", "9b"], /^dpo-train: --shape must be one of 135m, 1b, 3b, 8b or 70b, got "9b"$/m],
    [["--shape", "toString"], /^dpo-train: --shape must be one of /],
    [["--device-memory", "24"], /^dpo-train: --device-memory must be a size such as 24GB or 8GiB, got "24"$/m],
    [["--device-memory", "\u001b[31m"], /got "\\u001b\[31m"$/m],
    [["--pairs", "0"], /^dpo-train: --pairs must be a whole number of at least 1, got "0"$/m],
    [["--pairs", "many"], /^dpo-train: --pairs must be a whole number of at least 1, got "many"$/m],
    [["--precision", "auto"], /^dpo-train: --precision must be f32 or f16, got "auto"$/m],
    [
      set({ max_tokens_per_batch: 3 }),
      /^dpo-train: max_tokens_per_batch must be at least \d+, which the longest pair needs, got 3$/m,
    ],
  ])("%j", async (args, message) => {
    await expectRefused(plan("configs/twin-tiny.yaml", ...args), 2, message);
  });

  it("in the data that is there", async () => {
    const { config, folder } = await prepareTraining();
    const rows = join(folder, "rows.jsonl");
    await writeFile(rows, `${await readFile(rootPath("test/golden/data/plain-train.jsonl"), "utf8")}{"prompt": "a"}\n`);
    const { code, stderr } = await plan(config, ...set({ dataset: rows }));
    expect(code).toBe(2);
    expect(stderr).toContain(`${rows}:10: chosen must be text`);
  });
});
