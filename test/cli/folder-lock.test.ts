import { readdir } from "node:fs/promises";
import { hostname } from "node:os";
import { expect, it } from "vitest";
import { TEST_DEVICE } from "../device.ts";
import { ended, start } from "./process.ts";
import { prepareTraining, set, train } from "./training.ts";

const LONG = "save_steps: 2\nexport: {merged_16bit: false}\n";

const FOR_HOURS = set({ num_train_epochs: 10_000 });

function startLong(config: string) {
  const child = start(["--device", TEST_DEVICE, "--config", config, "--resume", ...FOR_HOURS]);
  const end = ended(child);
  const saysText = (text: RegExp) =>
    new Promise<void>((resolve, reject) => {
      let seen = "";
      void end.then(({ stderr }) => reject(new Error(stderr)));
      child.stdout!.on("data", (more: string) => {
        seen += more;
        if (text.test(seen)) resolve();
      });
    });
  return { child, end, saysText };
}

it("a folder that a process trains into is refused to another, and free when it has ended", async () => {
  const training = await prepareTraining(LONG);
  const { child, end, saysText } = startLong(training.config);
  await saysText(/^step +3\//m);
  for (const args of [[], ["--resume"]]) {
    const { code, stderr } = await train(training, args);
    expect(code).toBe(2);
    const who = `process ${child.pid} on ${hostname()}, since 20`;
    expect(stderr).toContain(`dpo-train: output_dir ${training.output} is in use by another dpo-train (${who}`);
    expect(stderr.trimEnd()).not.toContain("\n");
  }
  child.kill("SIGINT");
  expect(await end).toMatchObject({ code: 130 });
  expect(await readdir(training.output)).not.toContain(".dpo-train.lock");
  const { code, stdout } = await train(training, ["--resume", ...FOR_HOURS, "--dry-run"]);
  expect(code).toBe(0);
  expect(stdout).toContain("continuing after step ");
});

it("of two that begin at once one trains, and the other says so", async () => {
  const training = await prepareTraining("export: {merged_16bit: false}\n");
  const results = await Promise.all([train(training), train(training)]);
  expect(results.map(({ code }) => code).sort()).toEqual([0, 2]);
  expect(results.map(({ stderr }) => stderr).join("")).toMatch(/is in use by another dpo-train|holds the checkpoints/);
});

it("a killed run's folder can be continued at once, and leaves no lock", async () => {
  const training = await prepareTraining(LONG);
  for (const text of [/^step +3\//m, /continuing after step /, /training on /]) {
    const { child, end, saysText } = startLong(training.config);
    await saysText(text);
    child.kill("SIGKILL");
    if (text.source === "training on ") await end; // Else the next begins while this one is still going.
  }
  const { child, end, saysText } = startLong(training.config);
  await saysText(/^step +10\//m);
  child.kill("SIGTERM");
  const { code, stdout, stderr } = await end;
  expect({ code, lock: /lock|in use/.exec(stdout + stderr) }).toEqual({ code: 143, lock: null });
  expect(await readdir(training.output)).not.toContain(".dpo-train.lock");
});

it("a run that was killed before it wrote anything leaves a folder that counts as empty", async () => {
  const training = await prepareTraining("export: {merged_16bit: false}\n");
  const child = start(["--device", TEST_DEVICE, "--config", training.config]);
  await new Promise((resolve) => child.stdout!.once("data", resolve));
  child.kill("SIGKILL");
  await ended(child);
  expect(await readdir(training.output)).toEqual([".dpo-train.lock"]);
  expect(await train(training)).toMatchObject({ code: 0, stderr: "" });
  expect(await readdir(training.output)).not.toContain(".dpo-train.lock");
});
