import { spawn } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { TEST_DEVICE } from "../device.ts";
import { rootPath } from "../model/golden-model.ts";
import { ended, signalAt } from "./process.ts";
import { prepareTraining, set, type Training, train } from "./training.ts";

/** Six steps, each saved. The adapter's file has some 90 kB. */
const SETTINGS = "save_steps: 1\nsave_total_limit: 1\nexport: {merged_16bit: false}\n";
const LARGE = set({ "lora.r": 112, num_train_epochs: 2 });

async function expectIntact(training: Training, step: number): Promise<void> {
  const names = await readdir(join(training.output, "checkpoints"));
  expect(names.sort()).toEqual(["reference.safetensors", `step-00000${step}`]);
  const { code, stdout } = await train(training, [...LARGE, "--resume"]);
  expect(code).toBe(0);
  expect(stdout).toContain(`continuing after step ${step}: `);
  expect(stdout).not.toContain("damaged");
  expect(JSON.parse(await readFile(join(training.output, "run.json"), "utf8"))).toMatchObject({ status: "done" });
}

it.each([
  ["a full disk", { FULL_DISK: "/.step-000004" }, "adapter_model.safetensors: cannot write: no space left on device"],
  ["a read-only file system", { READ_ONLY: "/.step-000004" }, "cannot create: read-only file system"],
])(
  "%s while saving ends the run, the last checkpoint is whole, and the run goes on from it",
  async (_, fault, said) => {
    const training = await prepareTraining(SETTINGS);
    const node = ["--import", rootPath("test/cli/full-disk.mjs")];
    const { code, stderr } = await train(training, LARGE, { node, environment: fault });
    expect(code).toBe(2);
    const [message, ...others] = stderr.match(/^dpo-train: .*$/gm) ?? [];
    expect(others).toEqual([]);
    expect(message).toContain(said);
    expect(message).toContain(
      `; step 4 could not be saved; the last checkpoint is ${training.output}/checkpoints/step-000003, from which the same command with --resume continues`,
    );
    expect(JSON.parse(await readFile(join(training.output, "run.json"), "utf8"))).toMatchObject({ status: "failed" });
    await expectIntact(training, 3);
  },
);

it("a limit on the size of files (ulimit -f) does the same", async () => {
  const training = await prepareTraining(SETTINGS);
  // An adapter of 1.2 MB: SwiftShader's own memory is a file too, and needs most of the limit's 1 MiB.
  const wide = set({
    "lora.r": 512,
    "lora.target_modules": "[q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]",
  });
  await train(training, wide, { node: [signalAt("stdout", ["step 2/3 "], "SIGTERM")] });
  const [saved] = (await readdir(join(training.output, "checkpoints"))).filter((name) => name.startsWith("step-"));
  const command = ["dist/cli/main.js", "--device", TEST_DEVICE, "--config", training.config, ...wide, "--resume"];
  const limited = spawn("bash", ["-c", 'ulimit -f 1024 && exec "$@"', "bash", process.execPath, ...command], {
    cwd: rootPath("."),
  });
  const { code, stderr } = await ended(limited);
  expect(code).toBe(2);
  expect(stderr).toMatch(
    new RegExp(
      `^dpo-train: .*adapter_model\\.safetensors: cannot write: file too large; step 3 could not be saved; the last checkpoint is .*${saved}, from which the same command with --resume continues$`,
      "m",
    ),
  );
  expect(await train(training, [...wide, "--resume"])).toMatchObject({ code: 0 });
});

it("weights that are not finite are not saved: exit code 4 with step and tensor, and the checkpoint before stays", async () => {
  const training = await prepareTraining(SETTINGS);
  // The learning rate rises from 0, so that the first update changes nothing and the second one everything.
  const settings = [...LARGE, ...set({ learning_rate: "3e38", warmup_steps: 1 })];
  const { code, stderr } = await train(training, settings);
  expect(code).toBe(4);
  // Found by the save after step 2 or by the next forward pass, whichever comes first.
  expect(stderr).toMatch(
    /^dpo-train: (after the update of step 2|step 3): .*lora_[AB]\b.*; the last checkpoint is .*step-000001, /m,
  );
  expect((await readdir(join(training.output, "checkpoints"))).sort()).toEqual([
    "reference.safetensors",
    "step-000001",
  ]);
});
