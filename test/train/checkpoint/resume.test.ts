import { existsSync } from "node:fs";
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { listCheckpoints } from "../../../src/train/checkpoint/folders.ts";
import { temporaryFolder } from "../whole-run.ts";
import { resultsOf, train } from "./runs.ts";

vi.mock("../../../src/platform/dawn.ts", () => import("../shared-device.ts"));

const folder = temporaryFolder();

const STOPS = {
  "in the first epoch": ["step  2/11"],
  "between a record and the next": ["step  5/11"],
  "where a checkpoint was just written": ["step  8/11"],
  twice: ["step  3/11", "step  7/11"],
  "in an evaluation": ["evaluation at step 5"],
  "after the last step": ["step 11/11"],
};

describe.each<[name: string, settings: string[], stops: (keyof typeof STOPS)[]]>([
  ["adamw", ["optim=adamw"], Object.keys(STOPS) as (keyof typeof STOPS)[]],
  // Of the rank 112 every factor has the 4096 elements from which on its moments are in 8 bits.
  ["adamw_8bit", ["optim=adamw_8bit", "lora.r=112", "weight_decay=0.1"], ["twice"]],
  ["adamw in file order, saved by shares of the run", ["optim=adamw", "shuffle=false", "save_steps=0.3"], ["twice"]],
])("%s", (name, settings, when) => {
  const undisturbed = join(folder, `undisturbed ${name}`);
  let expected: Record<string, string>;
  beforeAll(async () => {
    expect(await train(undisturbed, { settings })).toMatchObject({ error: null });
    expected = await resultsOf(undisturbed);
    const optimizer = await readFile(join(undisturbed, "checkpoints/step-000011/optimizer.safetensors"), "latin1");
    expect(optimizer.includes('"layers.0.self_attn.q_proj.lora_A.exp_avg_8bit":{"dtype":"U8"')).toBe(
      name === "adamw_8bit",
    );
  });

  it.each(when)("interrupted %s it continues to the same bits", async (when) => {
    const output = join(folder, `${name} ${when}`);
    for (const [i, stopAt] of STOPS[when].entries()) {
      const { error } = await train(output, { settings, stopAt, ...(i > 0 && { resume: true }) });
      expect(error?.message).toMatch(
        /^interrupted after step \d+ of 11; .*: the same command with --resume continues after step \d+$/,
      );
    }
    const { error, said } = await train(output, { settings, resume: true });
    expect(error).toBe(null);
    expect(said).toMatch(/^continuing after step \d+: /m);
    expect(await resultsOf(output)).toEqual(expected);
  });
});

it("an evaluation that was interrupted is made when the run goes on", async () => {
  const settings = ["eval_kl=true"];
  const undisturbed = join(folder, "evaluated");
  await train(undisturbed, { settings });
  const output = join(folder, "evaluation interrupted");
  // The step's line comes before its evaluation, which ends at once.
  expect(await train(output, { settings, stopAt: "step  5/11" })).toMatchObject({ error: { exitCode: 130 } });
  const saved = JSON.parse(await readFile(join(output, "checkpoints/step-000005/state.json"), "utf8"));
  expect(saved.loop).toMatchObject({ step: 5, evaluationIsDue: true });
  expect(await readFile(join(output, "metrics.jsonl"), "utf8")).not.toContain("eval_loss");
  expect(await train(output, { settings, resume: true })).toMatchObject({ error: null });
  expect(await resultsOf(output)).toEqual(await resultsOf(undisturbed));
});

describe("of a run that is done", () => {
  const done = join(folder, "done");
  beforeAll(async () => {
    expect(await train(done, { settings: ["save_total_limit=5"] })).toMatchObject({ error: null });
  });
  const copy = async (name: string) => {
    const output = join(folder, name);
    await cp(done, output, { recursive: true });
    return output;
  };

  it("the checkpoints are those that were asked for, and nothing temporary is left", async () => {
    const names = await readdir(join(done, "checkpoints"));
    expect(names.sort()).toEqual(["reference.safetensors", "step-000004", "step-000008", "step-000011"]);
    expect((await readdir(join(done, "checkpoints/step-000004"))).sort()).toEqual([
      "adapter_config.json",
      "adapter_model.safetensors",
      "manifest.json",
      "metrics.jsonl",
      "optimizer.safetensors",
      "state.json",
    ]);
  });

  it("save_total_limit keeps the newest", async () => {
    const output = join(folder, "limited");
    expect(await train(output, { settings: ["save_steps=1", "save_total_limit=3"] })).toMatchObject({ error: null });
    const names = (await readdir(join(output, "checkpoints"))).filter((name) => name.startsWith("step-"));
    expect(names.sort()).toEqual(["step-000009", "step-000010", "step-000011"]);
    expect(await resultsOf(output)).toEqual(await resultsOf(done));
  });

  it("without save_steps there is one a minute", async () => {
    const output = join(folder, "by the clock");
    vi.useFakeTimers({ toFake: ["performance"] });
    const onText = (text: string) => void (text.startsWith("step ") && vi.advanceTimersByTime(25_000));
    const settings = ["save_steps=null", "save_total_limit=9"];
    expect(await train(output, { settings, onText })).toMatchObject({ error: null });
    vi.useRealTimers();
    const steps = (await listCheckpoints(join(output, "checkpoints"))).map(({ step }) => step).reverse();
    // A minute is over with the third step, whose line comes while the GPU is at the fourth.
    for (const [i, step] of steps.slice(0, -1).entries()) expect([3, 4]).toContain(step - (steps[i - 1] ?? 0));
    expect(steps.length).toBeGreaterThan(2);
    expect(steps.at(-1)).toBe(11);
    expect(await resultsOf(output)).toEqual(await resultsOf(done));
  });

  it("--resume has nothing to do, and without it the folder is refused", async () => {
    const { said, error } = await train(done, { resume: true, settings: ["save_total_limit=5"] });
    expect(error).toBe(null);
    expect(said).toContain(`--resume: ${done} is done already\n`);
    expect((await train(done)).error?.message).toBe(
      `output_dir ${done} holds the checkpoints of a run: continue it with --resume, choose another with --set output_dir=FOLDER, or remove it`,
    );
  });

  it("a checkpoint continues in a new folder too, by its path", async () => {
    const output = join(folder, "elsewhere");
    const { error } = await train(output, { resume: join(done, "checkpoints/step-000004") });
    expect(error).toBe(null);
    expect(await resultsOf(output)).toEqual(await resultsOf(done));
  });

  it("trained but not exported, it is exported", async () => {
    const output = await copy("not exported");
    await rm(join(output, "run.json"));
    await rm(join(output, "adapter"), { recursive: true });
    const { said, error } = await train(output, { resume: true });
    expect(error).toBe(null);
    expect(said).not.toMatch(/^step /m);
    expect(await resultsOf(output)).toEqual(await resultsOf(done));
  });

  it("an older checkpoint by its name, with what was left half written removed", async () => {
    const output = await copy("from an older one");
    await rm(join(output, "run.json"));
    await writeFile(join(output, "metrics.jsonl"), "half a rec");
    await writeFile(join(output, ".run.json.0123456789ab.partial"), "{");
    await cp(join(output, "checkpoints/step-000008"), join(output, "checkpoints/.step-000009.0123456789ab.partial"), {
      recursive: true,
    });
    const { said, error } = await train(output, { resume: "step-000004", settings: ["save_total_limit=5"] });
    expect(error).toBe(null);
    expect(said).toMatch(/^step {2}5\/11 /m);
    expect(await resultsOf(output)).toEqual(await resultsOf(done));
    expect((await readdir(output, { recursive: true })).filter((name) => name.includes(".partial"))).toEqual([]);
  });

  it("every difference that matters is named, and others are allowed", async () => {
    const output = await copy("different");
    await rm(join(output, "run.json"));
    const before = await readFile(join(output, "metrics.jsonl"), "utf8");
    const settings = ["learning_rate=0.02", "lora.r=4", "max_steps=12", "dataset=test/golden/data/plain-eval.jsonl"];
    const { error } = await train(output, { resume: true, settings });
    expect(error).toMatchObject({ exitCode: 2 });
    for (const text of [
      "lora.r is 4, and was 2",
      "learning_rate is 0.02, and was 0.01",
      "max_steps is 12, and was 11",
      "the SHA-256 of the data is ",
      "the SHA-256 of the data's tokens is ",
    ]) {
      expect(error!.message).toContain(text);
    }
    expect(error!.message).not.toContain("shape");
    expect(await readFile(join(output, "metrics.jsonl"), "utf8")).toBe(before);
    expect(existsSync(join(output, "run.json"))).toBe(false);
    const others = ["save_steps=2", "save_total_limit=1", "gradient_checkpointing=true"];
    expect(await train(output, { resume: true, settings: others })).toMatchObject({ error: null });
  });

  it("a reference that is damaged is made again", async () => {
    const output = await copy("reference damaged");
    await rm(join(output, "run.json"));
    await writeFile(join(output, "checkpoints/reference.safetensors"), "nothing");
    const { said, error } = await train(output, { resume: "step-000008" });
    expect(error).toBe(null);
    expect(said).toMatch(/^note: the reference's log-probabilities .* damaged/m);
    expect(await resultsOf(output)).toEqual(await resultsOf(done));
  });
});

it("--resume begins anew what was ended before its first checkpoint, and nothing else", async () => {
  const output = join(folder, "ended early");
  const { said } = await train(output, { resume: true, stopAt: "reference log-probabilities" });
  expect(said).toContain(`--resume: no checkpoint in ${output}/checkpoints: starting from the beginning\n`);
  expect(existsSync(output)).toBe(false);
  expect(await train(output, { stopAt: "step  1/11" })).toMatchObject({ error: { exitCode: 130 } });
  await rm(join(output, "checkpoints"), { recursive: true });
  expect(await train(output, { resume: true, stopAt: "step  6/11" })).toMatchObject({ error: { exitCode: 130 } });
  expect((await readFile(join(output, "metrics.jsonl"), "utf8")).match(/"step":2,/g)).toHaveLength(1);

  await rm(output, { recursive: true });
  await mkdir(output);
  await writeFile(join(output, ".config.yaml.0123456789ab.partial"), "model: ");
  expect(await train(output, { resume: true, stopAt: "step  1/11" })).toMatchObject({ error: { exitCode: 130 } });
  expect((await readdir(output)).sort()).toEqual([
    "checkpoints",
    "config.yaml",
    "metrics.jsonl",
    "performance.jsonl",
    "run.json",
  ]);

  await rm(join(output, "checkpoints"), { recursive: true });
  await writeFile(join(output, "thesis.txt"), "mine");
  expect((await train(output, { resume: true })).error?.message).toContain(
    "must be empty or not exist, found config.yaml,",
  );
});
