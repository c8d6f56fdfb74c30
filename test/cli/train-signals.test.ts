import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { signalAt } from "./process.ts";
import { prepareTraining, set, train } from "./training.ts";

const SIGNALS = [
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const;

describe.each(SIGNALS)("%s", (signal, exitCode) => {
  it("ends the training after the step at hand, and says what is left", async () => {
    const training = await prepareTraining();
    const { output } = training;
    const node = [signalAt("stdout", ["step  2/30 "], signal)];
    const { code, stdout, stderr } = await train(training, set({ num_train_epochs: 10 }), { node });
    expect(code).toBe(exitCode);
    const done = stdout.match(/(?<=^step +)\d+(?=\/30 )/gm)!.at(-1);
    expect(Number(done)).toBeLessThan(5);
    expect(stdout).toContain(`${signal}: stopping after the work at hand; a second one stops at once\n`);
    const message =
      `interrupted after step ${done} of 30; ${output} holds checkpoints, config.yaml, metrics.jsonl, performance.jsonl, run.json: ` +
      `the same command with --resume continues after step ${done}`;
    expect(stderr).toContain(`dpo-train: ${message}\n`);
    expect(await readdir(join(output, "checkpoints"))).toContain(`step-${done!.padStart(6, "0")}`);
    const metrics = (await readFile(join(output, "metrics.jsonl"), "utf8")).trimEnd().split("\n");
    expect(JSON.parse(metrics.at(-1)!).step).toBe(Number(done));
    expect(JSON.parse(await readFile(join(output, "run.json"), "utf8"))).toMatchObject({
      status: "interrupted",
      steps_done: Number(done),
      error: message,
    });
  });
});

it("before training nothing is left", async () => {
  const training = await prepareTraining();
  const { code, stderr } = await train(training, [], { node: [signalAt("stdout", ["evaluation on "], "SIGTERM")] });
  expect(code).toBe(143);
  expect(stderr).toContain("dpo-train: interrupted; nothing was written\n");
  expect(existsSync(training.output)).toBe(false);
});

it("while merging the adapter is left, and --resume merges", async () => {
  const training = await prepareTraining();
  const { output } = training;
  const { code, stderr } = await train(training, [], { node: [signalAt("stdout", ["/adapter\n"], "SIGINT")] });
  expect(code).toBe(130);
  expect(stderr).toContain(
    `dpo-train: interrupted after step 3 of 3; ${output} holds adapter, checkpoints, config.yaml, metrics.jsonl, performance.jsonl, run.json: ` +
      "the same command with --resume continues after step 3\n",
  );
  expect((await readdir(output)).sort()).toEqual([
    "adapter",
    "checkpoints",
    "config.yaml",
    "metrics.jsonl",
    "performance.jsonl",
    "report.html",
    "run.json",
  ]);
  expect((await readdir(join(output, "adapter"))).sort()).toEqual(["adapter_config.json", "adapter_model.safetensors"]);
  const resumed = await train(training, ["--resume"]);
  expect(resumed).toMatchObject({ code: 0, stderr: "" });
  expect(resumed.stdout).toMatch(/^continuing after step 3: /m);
  expect((await readdir(output)).sort()).toEqual([
    "adapter",
    "checkpoints",
    "config.yaml",
    "merged",
    "metrics.jsonl",
    "performance.jsonl",
    "report.html",
    "run.json",
  ]);
});

it("a second signal ends the process at once", async () => {
  const training = await prepareTraining();
  const node = [signalAt("stdout", ["step 1/3 ", "SIGINT: stopping "], "SIGINT")];
  const { code, signal, stderr } = await train(training, [], { node });
  expect({ code, signal }).toEqual({ code: null, signal: "SIGINT" });
  expect(stderr).not.toContain("interrupted");
});
