import { existsSync } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import { rootPath } from "../model/golden-model.ts";
import { dpoTrain, pretendTerminal } from "./process.ts";
import { MODEL, prepareTraining, ROWS, set, train } from "./training.ts";

const SAMPLE = "sample_prompt: Say something.\nsample_max_new_tokens: 4\n";

async function records(folder: string): Promise<Record<string, number>[]> {
  const text = await readFile(join(folder, "metrics.jsonl"), "utf8");
  expect(text.endsWith("\n")).toBe(true);
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
}

/** Every file of a folder with its size and when it was written. */
async function filesOf(folder: string): Promise<string[]> {
  const names = await readdir(folder, { recursive: true });
  return Promise.all(
    names.sort().map(async (name) => {
      const { size, mtimeMs } = await stat(join(folder, name));
      return `${name} ${size} ${mtimeMs}`;
    }),
  );
}

it("trains, evaluates, exports and tells about it; the same again from the config it has written", async () => {
  const training = await prepareTraining(SAMPLE);
  const { output } = training;
  const { code, stdout, stderr } = await train(training);
  expect(code).toBe(0);
  expect(stderr).not.toContain("dpo-train");
  // A file gets plain lines, one for each step.
  expect(stdout).not.toContain("\r");
  expect(stdout).not.toContain("\u001b");
  const said = stdout.split("\n");
  expect(said).toContain("  rows               9 read, 9 kept, 0 dropped");
  expect(said).toContain("  steps              3, 3 to an epoch");
  expect(said.filter((line) => line.startsWith("step "))).toEqual(
    [1, 2, 3].map((step) =>
      expect.stringMatching(
        new RegExp(
          `^step ${step}/3  loss \\d\\.\\d{4}  margin -?\\d\\.\\d{4}  accuracy \\d\\.\\d\\d  kl -?\\d\\.\\d{4}  grad \\d\\.\\d\\d  ` +
            "lr \\d\\.\\de-\\d  [\\d.e+]+ pairs/s  \\d+ tokens/s  0:\\d\\d left$",
        ),
      ),
    ),
  );
  expect(stdout).toMatch(/^evaluation at step 3 {2}loss \d\.\d{4} {2}margin -?\d\.\d{4} {2}accuracy \d\.\d\d$/m);
  expect(said).toContain(`wrote ${output}/adapter`);
  expect(said).toContain(`wrote ${output}/merged`);
  expect(stdout).toMatch(/^merge fidelity in bfloat16 /m);
  expect(said.at(-3)).toMatch(new RegExp(`^done in 0:\\d\\d: ${output}$`));
  expect(said.at(-2)).toBe(`report: ${output}/report.html`);

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
  expect(await readFile(join(output, "report.html"), "utf8")).toMatch(/^<!doctype html>[\s\S]*<\/html>\s*$/i);
  expect((await readdir(join(output, "adapter"))).sort()).toEqual(["adapter_config.json", "adapter_model.safetensors"]);
  expect((await readdir(join(output, "merged"))).sort()).toEqual((await readdir(rootPath(MODEL))).sort());
  expect(loadConfig(join(output, "config.yaml")).config).toEqual(loadConfig(training.config).config);

  const log = await records(output);
  expect(log.map(({ step, eval_loss: evaluated }) => [step, evaluated !== undefined])).toEqual([
    [1, false],
    [2, false],
    [3, false],
    [3, true],
  ]);
  expect(log[0]).toMatchObject({ loss: expect.closeTo(Math.log(2), 6), "rewards/margins": expect.closeTo(0, 6) });

  const run = JSON.parse(await readFile(join(output, "run.json"), "utf8"));
  expect(run).toMatchObject({ status: "done", schedule: { total_steps: 3 }, data: { train: { rows: { kept: 9 } } } });
  expect(run.device).toMatchObject({ profile: "fast", software: expect.any(Boolean) });
  expect(run.device.toggles.enabled).toEqual(expect.arrayContaining(["skip_validation", "disable_robustness"]));
  expect(Object.keys(run.sha256.data)).toEqual([ROWS, "test/golden/data/plain-eval.jsonl"]);
  for (const when of ["before", "after"]) {
    const at = said.indexOf(`answer ${when} training to "Say something.":`);
    expect(said[at + 1]?.startsWith("  ")).toBe(true);
    expect(run.samples[when]).toBeTypeOf("string");
  }

  const again = join(training.folder, "again");
  const args = ["--config", join(output, "config.yaml"), ...set({ output_dir: again })];
  expect(await dpoTrain(["--device", run.device.name, ...args])).toMatchObject({ code: 0 });
  for (const file of ["metrics.jsonl", "adapter/adapter_model.safetensors", "merged/model.safetensors"]) {
    expect((await readFile(join(again, file))).equals(await readFile(join(output, file)))).toBe(true);
  }
});

it("rewrites the progress in place on a terminal, and refuses a folder that holds a run without touching it", async () => {
  const training = await prepareTraining("export: {merged_16bit: false}\n");
  const { code, stdout } = await train(training, [], { node: [pretendTerminal("stdout")] });
  expect(code).toBe(0);
  const shown = stdout.replaceAll("\u001b", "ESC").replaceAll("\r", "CR");
  // 80 columns: each step takes two lines, which the next one takes away.
  expect(shown).toMatch(/step 1\/3 {2}loss .* {2}grad [\d.]+\nlr .* leftESC\[1ACRESC\[Jstep 2\/3 /);
  expect(shown).toMatch(
    /leftESC\[1ACRESC\[Jevaluation at step 3 .*\nwrote .*\/adapter\ndone in 0:\d\d: .*\nreport: .*\n$/,
  );

  const files = await filesOf(training.output);
  const refused = await train(training);
  expect(refused).toMatchObject({ code: 2, stdout: "" });
  expect(refused.stderr).toBe(
    `dpo-train: output_dir ${training.output} holds the checkpoints of a run: continue it with --resume, ` +
      "choose another with --set output_dir=FOLDER, or remove it\n",
  );
  expect(await filesOf(training.output)).toEqual(files);
});

it("--dry-run shows what would be trained, opens no device and writes nothing", async () => {
  const training = await prepareTraining();
  const settings = set({ per_device_train_batch_size: 1, gradient_accumulation_steps: 2, warmup_ratio: 0.3 });
  const args = [...settings, "--dry-run", "--device", "no such card"];
  const { code, stdout, stderr } = await train(training, args);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout).toMatch(/^training on test\/golden\/data\/plain-train\.jsonl\n {2}rows +9 read, 9 kept, 0 dropped\n/);
  expect(stdout).toMatch(/^ {2}steps +5, 5 to an epoch\n {2}warm-up +2 steps, 40% of the run$/m);
  expect(stdout).toMatch(/^evaluation on test\/golden\/data\/plain-eval\.jsonl\n {2}rows +4 read/m);
  expect(stdout).toMatch(/^ {4}prompt +<\|begin_of_text\|>Below is an instruction/m);
  expect(existsSync(training.output)).toBe(false);
});

it("--profile shows what each kernel took, also with all checks on, and writes profile.json and a trace", async () => {
  const training = await prepareTraining();
  const { code, stdout } = await train(training, ["--profile", "--safe"]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^GPU profile of steps 2 to 3, per step: \d+\.\d ms, \d+\.\d% of it idle$/m);
  expect(stdout).toMatch(/^matmul\/nt +\d+ +\d+\.\d{3} +\d+\.\d% +[\d.e+]+ +[\d.e+]+$/m);
  const profile = JSON.parse(await readFile(join(training.output, "profile.json"), "utf8"));
  expect(profile).toMatchObject({ steps: [2, 3], spanMs: expect.any(Number), idleShare: expect.any(Number) });
  const { traceEvents } = JSON.parse(await readFile(join(training.output, "trace.json"), "utf8"));
  const dispatches = profile.kernels.reduce(
    (sum: number, kernel: { dispatches: number }) => sum + kernel.dispatches,
    0,
  );
  expect(traceEvents.length).toBe(dispatches);
  expect(traceEvents.filter(({ args }: { args?: { bytes: number } }) => !args || args.bytes <= 0)).toEqual([]);
  for (const { name, args } of traceEvents) {
    if (/^(matmul|attention)\/(?!delta)/.test(name)) expect([name, args.flops > 0]).toEqual([name, true]);
  }
  const { device } = JSON.parse(await readFile(join(training.output, "run.json"), "utf8"));
  expect(device).toMatchObject({ profile: "safe", enabled_features: expect.arrayContaining(["timestamp-query"]) });
  expect(device.toggles.enabled).toEqual(["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia"]);
});
