import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { rootPath } from "../model/golden-model.ts";
import { prepareTraining, type Training, train } from "./training.ts";

const EVERYTHING = `save_steps: 2
eval_kl: true
sample_prompt: Hello
sample_max_new_tokens: 3
`;

/** Trains on a device that loses a command buffer of this name, counted from 0. */
function trainLosing(training: Training, label: string, number: number, args: readonly string[]) {
  return train(training, args, {
    node: ["--import", rootPath("test/cli/lost-work.mjs")],
    environment: { LOST_WORK: label, LOST_AT: String(number) },
  });
}

it("--watch changes no bit of a run, and run.json says that it was on", async () => {
  const results = [];
  for (const args of [[], ["--watch"]]) {
    const training = await prepareTraining(EVERYTHING);
    expect(await train(training, args)).toMatchObject({ code: 0, stderr: "" });
    const read = (name: string) => readFile(join(training.output, name));
    const run = JSON.parse(String(await read("run.json")));
    expect(run.device.watched).toBe(args.length > 0);
    expect(run.memory.peak_bytes - run.memory.planned_bytes).toBeLessThan(600_000);
    const { adapter_sha256, merge, samples } = run;
    const files = ["metrics.jsonl", "merged/model.safetensors", "checkpoints/step-000002/optimizer.safetensors"];
    results.push({ adapter_sha256, merge, samples, files: await Promise.all(files.map(read)) });
  }
  expect(results[1]).toEqual(results[0]);
});

describe("work that is lost in silence ends a run that is watched with exit code 3 and what to do", () => {
  it.each([
    ["convert weights", 3, false],
    ["score", 0, false],
    ["backward", 0, false],
    ["update", 2, true],
    ["merge", 1, true],
  ])("%s", async (label, number, hasCheckpoint) => {
    const training = await prepareTraining(EVERYTHING);
    const { code, stderr } = await trainLosing(training, label, number, ["--watch"]);
    expect(code).toBe(3);
    expect(stderr).toMatch(
      new RegExp(
        `^dpo-train: --watch: the GPU's driver has dropped work in silence: the command buffer "${label}" was submitted, reported as done, and never ran to its end \\(\\d+ of \\d+ did\\); what was computed cannot be trusted: update the GPU's driver, lower max_tokens_per_batch, .*\n$`,
      ),
    );
    expect(stderr.includes("the last checkpoint is ")).toBe(hasCheckpoint);
  });

  it("and goes unseen where it is not", async () => {
    const training = await prepareTraining("export: {merged_16bit: false}\n");
    expect(await trainLosing(training, "backward", 0, [])).toMatchObject({ code: 0, stderr: "" });
  });
});
