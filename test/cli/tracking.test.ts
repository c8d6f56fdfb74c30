import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { TEST_DEVICE } from "../device.ts";
import { KEYS, type Loopback, type RemoteRun, startLoopback } from "../track/loopback.ts";
import { dpoTrain, signalAt } from "./process.ts";
import { prepareTraining, set, train } from "./training.ts";

const NONE = { COMET_API_KEY: "", COMET_WORKSPACE: "", WANDB_API_KEY: "", MLFLOW_TRACKING_URI: "" };
/** Nothing listens there. */
const DEAD = "http://127.0.0.1:9";

/** Names and steps of all values that metrics.jsonl has. */
async function recordedPoints(output: string): Promise<string[]> {
  const lines = (await readFile(join(output, "metrics.jsonl"), "utf8")).trimEnd().split("\n");
  return lines.flatMap((line) => {
    const { step, ...values } = JSON.parse(line) as Record<string, number>;
    return Object.entries(values).map(([key, value]) => {
      const name = key === "epoch" && "eval_loss" in values ? "eval_epoch" : key;
      return `${name} ${step} ${value}`;
    });
  });
}

function pointsOf({ points }: RemoteRun): string[] {
  return points.map(
    ([name, step, value]) => `${name.replace("eval/", "eval_").replace("train/", "")} ${step} ${value}`,
  );
}

async function requireExactlyOnce({ runs }: Loopback, output: string, count: number): Promise<void> {
  const expected = (await recordedPoints(output)).sort();
  expect(runs.size).toBe(count);
  for (const run of runs.values()) expect(pointsOf(run).sort()).toEqual(expected);
}

async function requireNoKey(folder: string, ...outputs: string[]): Promise<void> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const texts = await Promise.all(files.map((file) => readFile(file, "latin1")));
  for (const key of [...Object.values(KEYS), "wrong-key"]) {
    for (const form of [key, Buffer.from(`api:${key}`).toString("base64").replace(/=+$/, "")]) {
      expect([...texts, ...outputs].filter((text) => text.includes(form))).toEqual([]);
    }
  }
}

describe("report_to", { timeout: 300_000 }, () => {
  it("without a key is refused before a device is opened or anything is written, also by a sweep", async () => {
    const training = await prepareTraining("report_to: [tensorboard, wandb]\n");
    const message =
      "dpo-train: report_to wandb needs WANDB_API_KEY, your API key from https://wandb.ai/authorize: set it in the environment or in a file .env in this folder, or take wandb out of report_to\n";
    expect(await train(training, [], { environment: NONE })).toMatchObject({ code: 2, stdout: "", stderr: message });
    const sweep = ["sweep", "--config", training.config, "--set", "sweep={grid: {beta: [0.1, 0.2]}}", "--dry-run"];
    expect(await dpoTrain(sweep, { environment: NONE })).toMatchObject({ code: 2, stderr: message });
    expect(existsSync(training.output)).toBe(false);
  });

  it("a dead server, a wrong key, a kill and --resume cost the run nothing, and --sync sends the rest once", async () => {
    const server = await startLoopback();
    const plain = await prepareTraining("save_steps: 1\nsample_prompt: Who are you?\nsample_max_new_tokens: 4\n");
    expect(await train(plain)).toMatchObject({ code: 0 });
    const training = await prepareTraining(
      "save_steps: 1\nsample_prompt: Who are you?\nsample_max_new_tokens: 4\nreport_to: [tensorboard, comet_ml, wandb, mlflow]\n",
    );
    const { output } = training;
    const environment = { ...server.environment, WANDB_API_KEY: "wrong-key", MLFLOW_TRACKING_URI: DEAD };
    const node = [signalAt("stdout", ["step 3/3 "], "SIGKILL")];
    const killed = await train(training, [], { environment, node });
    expect(killed.signal).toBe("SIGKILL");
    const resumed = await train(training, ["--resume"], { environment });
    expect(resumed).toMatchObject({ code: 0, stderr: "" });
    expect(resumed.stdout).toMatch(/^wandb: .* does not accept WANDB_API_KEY \(401\): training goes on, not sent/m);
    expect(resumed.stdout).toMatch(/^mlflow: http:\/\/127.0.0.1:9 cannot be reached/m);
    expect(resumed.stdout).toMatch(/^mlflow: .*to send the rest: dpo-train report --sync /m);
    for (const file of ["metrics.jsonl", "adapter/adapter_model.safetensors"]) {
      expect((await readFile(join(output, file))).equals(await readFile(join(plain.output, file))), file).toBe(true);
    }
    await requireExactlyOnce(server, output, 1); // Comet has all already.

    const sync = ["report", "--sync", output];
    const failed = await dpoTrain(sync, { environment });
    expect(failed.code).toBe(2);
    expect(failed.stderr).toMatch(/could be sent: wandb: .*\(401\); mlflow: .* cannot be reached/);
    const synced = await dpoTrain(sync, { environment: server.environment });
    expect(synced).toMatchObject({ code: 0, stderr: "" });
    expect(synced.stdout).toMatch(/^mlflow has 4 records of .*: http/m);
    await requireExactlyOnce(server, output, 3);
    const requests = server.seen.length;
    expect((await dpoTrain(sync, { environment: server.environment })).code).toBe(0);
    expect(server.seen).toHaveLength(requests);
    expect(server.violations).toEqual([]);
    expect(await readdir(join(output, "tensorboard"))).toHaveLength(1);
    await requireNoKey(
      training.folder,
      ...[killed, resumed, failed, synced].flatMap((ended) => [ended.stdout, ended.stderr]),
    );
  });

  it("each run of a sweep is one of its own", async () => {
    const server = await startLoopback();
    const training = await prepareTraining("report_to: mlflow\nsweep: {grid: {beta: [0.1, 0.5]}}\n");
    const args = ["sweep", "--device", TEST_DEVICE, "--config", training.config, ...set({ max_steps: 1 })];
    const ended = await dpoTrain([...args, "--set", "num_train_epochs=null"], { environment: server.environment });
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    const runs = [...server.runs.values()];
    expect(runs.map(({ name, project, status }) => [name, project, status])).toEqual([
      ["beta=0.1", "run", "FINISHED"],
      ["beta=0.5", "run", "FINISHED"],
    ]);
    for (const run of runs) {
      expect(pointsOf(run).sort()).toEqual((await recordedPoints(join(training.output, run.name))).sort());
    }
    expect(server.violations).toEqual([]);
  });

  it("runs of a sweep that take turns arrive once and end once, also where turns go on in another process", async () => {
    const server = await startLoopback();
    const rates = [5.0e-9, 1.0e-3, 1.0e-2, 9.0e-3]; // The last two lag, and are stopped while they wait.
    const training = await prepareTraining(
      `report_to: mlflow\neval_strategy: steps\neval_steps: 1\nsweep: {grid: {learning_rate: ${JSON.stringify(rates)}}}\n`,
    );
    const args = ["sweep", "--device", TEST_DEVICE, "--config", training.config, "--stop-worse", "median"];
    const { environment } = server;
    const node = [signalAt("stdout", ["step 2/3"], "SIGINT")];
    expect(await dpoTrain(args, { environment, node })).toMatchObject({ code: 130 });
    const statuses = () => [...server.runs.values()].map(({ status }) => status);
    expect(statuses()).toEqual(["KILLED", "KILLED", "KILLED", "KILLED"]);
    expect(await dpoTrain(args, { environment })).toMatchObject({ code: 0, stderr: "" });
    expect(statuses()).toEqual(["FINISHED", "FINISHED", "FINISHED", "FINISHED"]);
    for (const run of server.runs.values()) {
      expect(pointsOf(run).sort()).toEqual((await recordedPoints(join(training.output, run.name))).sort());
    }
    expect(server.violations).toEqual([]);
  });
});
