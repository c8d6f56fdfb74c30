import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { TEST_DEVICE } from "../device.ts";
import { dpoTrain, type Ended, type ProcessOptions, signalAt } from "./process.ts";
import { prepareTraining, type Training, train } from "./training.ts";

const GRID =
  "save_steps: 1\neval_strategy: steps\neval_steps: 1\nsweep:\n  grid:\n    beta: [0.1, 0.5]\n    learning_rate: [1.0e-3, 1.0e-2]\n";
const NAMES = [
  "beta=0.1,learning_rate=0.001",
  "beta=0.1,learning_rate=0.01",
  "beta=0.5,learning_rate=0.001",
  "beta=0.5,learning_rate=0.01",
];

function sweep({ config }: Training, args: readonly string[] = [], options?: ProcessOptions): Promise<Ended> {
  return dpoTrain(["sweep", "--device", TEST_DEVICE, "--config", config, ...args], options);
}

const read = (...parts: string[]) => readFile(join(...parts));
const readJson = async (...parts: string[]) => JSON.parse((await read(...parts)).toString());
const statusesOf = async ({ output }: Training) =>
  (await readJson(output, "sweep.json")).runs.map(({ status }: { status: string }) => status);

describe("dpo-train sweep", { timeout: 300_000 }, () => {
  it("trains each run as it would be trained alone, loads the base once, merges the best, and goes on when interrupted", async () => {
    const training = await prepareTraining(GRID);
    const { output } = training;
    const ended = await sweep(training);
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    expect(ended.stdout.match(/^loaded .* in /gm)).toHaveLength(1);

    const alone = join(training.folder, "alone");
    const settings = ["sweep=null", "beta=0.5", "learning_rate=0.01", `output_dir=${alone}`];
    await train(
      training,
      settings.flatMap((setting) => ["--set", setting]),
    );
    for (const file of ["metrics.jsonl", "adapter/adapter_model.safetensors"]) {
      expect((await read(output, NAMES[3]!, file)).equals(await read(alone, file)), file).toBe(true);
    }
    const runs = await Promise.all(NAMES.map((name) => readJson(output, name, "run.json")));
    expect(runs.map(({ status, reference }) => [status, reference])).toEqual([
      ["done", "computed"],
      ["done", "cache"],
      ["done", "cache"],
      ["done", "cache"],
    ]);
    expect(new Set(runs.map(({ adapter_sha256 }) => adapter_sha256)).size).toBe(4);

    const results = await readJson(output, "sweep.json");
    const losses = results.runs.map(({ final }: { final: { eval_loss: number } }) => final.eval_loss);
    expect(results.best).toBe(NAMES[losses.indexOf(Math.min(...losses))]);
    const merged = await Promise.all(NAMES.map(async (name) => (await readdir(join(output, name))).includes("merged")));
    expect(merged).toEqual(NAMES.map((name) => name === results.best));
    expect((await read(output, "sweep.html")).toString()).toContain(NAMES[3]);
    const rows = ended.stdout.split("\n").filter((line) => /^\*? +0\.[15] /.test(line));
    expect(rows).toHaveLength(4);

    // Interrupted, it goes on where it was, and does nothing twice.
    const stopped = { ...training, output: join(training.folder, "stopped") };
    const again = (node: string[] = []) => sweep(stopped, ["--set", `output_dir=${stopped.output}`], { node });
    const first = await again([signalAt("stdout", ["lr 6.7e-3"], "SIGINT")]); // The second step of the second run.
    expect(first.code).toBe(130);
    expect(first.stderr).toMatch(/learning_rate=0\.01: interrupted after step 2 of 3; .*: the same command continues/);
    expect(await statusesOf(stopped)).toEqual(["done", "interrupted", "pending", "pending"]);
    const second = await again([signalAt("stdout", ["lr 6.7e-4"], "SIGKILL")]); // That of the third one.
    expect(second.signal).toBe("SIGKILL");
    expect(second.stdout).toContain("a sweep of 4 runs, of which 3 are left to do");
    expect(second.stdout).toContain("continuing after step 2");
    expect(await again()).toMatchObject({ code: 0, stderr: "" });
    for (const name of NAMES) {
      for (const file of ["metrics.jsonl", "adapter/adapter_model.safetensors"]) {
        const bytes = await read(output, name, file);
        expect((await read(stopped.output, name, file)).equals(bytes), `${name} ${file}`).toBe(true);
      }
    }
    const last = await again();
    expect(last.code).toBe(0);
    expect(last.stdout).not.toContain("step 1/3");
  });

  it("leaves a run that is not finite, trains the others, and ends with its exit code", async () => {
    const training = await prepareTraining(`sweep: {grid: {learning_rate: [1.0e+38, 1.0e-3]}}\n`);
    const ended = await sweep(training);
    expect(ended.code).toBe(4);
    expect(ended.stderr).toMatch(
      /^dpo-train: 1 of 2 runs failed, and the others are at their end; learning_rate=1e\+38: step 2: /,
    );
    expect(await statusesOf(training)).toEqual(["failed", "done"]);
    const again = await sweep(training);
    expect(again.code).toBe(0);
    expect(again.stdout).toMatch(/learning_rate=1e\+38 failed: step 2: /);
  });

  it("ends runs that lag behind the others, after turns that change nothing, and goes on when killed", async () => {
    const rates = [5.0e-9, 1.0e-3, 1.0e-2, 9.0e-3]; // After one step of these few pairs the lowest are best.
    const training = await prepareTraining(
      `eval_strategy: steps\neval_steps: 1\nsweep: {grid: {learning_rate: ${JSON.stringify(rates)}}}\n`,
    );
    const stopWorse = (to: Training, node: string[] = []) =>
      sweep(to, ["--stop-worse", "median", "--set", `output_dir=${to.output}`], { node });
    const ended = await stopWorse(training);
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    const { runs } = await readJson(training.output, "sweep.json");
    expect(runs.map(({ status }: { status: string }) => status)).toEqual(["done", "done", "stopped", "stopped"]);
    expect(runs[2].reason).toMatch(/^its best eval_loss by epoch 0\.\d+, .*, is worse than the median of 3 other runs/);
    expect(runs[2].steps).toBe(1);
    expect(await readdir(join(training.output, "learning_rate=0.01"))).not.toContain("adapter");
    expect((await read(training.output, "learning_rate=0.01", "report.html")).toString()).toContain(runs[2].reason);
    const again = await stopWorse(training);
    expect(again.stdout).not.toContain("step 1/3");

    const alone = join(training.folder, "alone");
    await sweep(training, ["--only", "1", "--set", `output_dir=${alone}`]);
    const killed = { ...training, output: join(training.folder, "killed") };
    expect((await stopWorse(killed, [signalAt("stdout", ["run 3 of 4"], "SIGKILL")])).signal).toBe("SIGKILL");
    expect(await statusesOf(killed)).toEqual(["paused", "paused", "pending", "pending"]);
    // In the second turn of the first run.
    const interrupted = await stopWorse(killed, [signalAt("stdout", ["step 2/3"], "SIGINT")]);
    expect(interrupted.code).toBe(130);
    expect(await statusesOf(killed)).toEqual(["interrupted", "paused", "paused", "paused"]);
    expect(await stopWorse(killed)).toMatchObject({ code: 0, stderr: "" });
    expect(await statusesOf(killed)).toEqual(["done", "done", "stopped", "stopped"]);
    for (const file of ["metrics.jsonl", "adapter/adapter_model.safetensors"]) {
      const bytes = await read(alone, "learning_rate=0.001", file);
      for (const { output } of [training, killed]) {
        expect((await read(output, "learning_rate=0.001", file)).equals(bytes), file).toBe(true);
      }
    }
  });

  it("says of a run that is too large for the device why it could not begin, and trains the others", async () => {
    const training = await prepareTraining("sweep: {grid: {max_tokens_per_batch: [400, 20000]}}\n");
    const ended = await sweep(training, ["--device-memory", "36MB"]);
    expect(ended.code).toBe(3);
    expect(await statusesOf(training)).toEqual(["done", "pending"]);
    const { runs } = await readJson(training.output, "sweep.json");
    expect(runs[1].reason).toContain("and 34.6 MB may be used: max_tokens_per_batch=");
    expect(ended.stdout).toContain(`max_tokens_per_batch=20000 could not begin: ${runs[1].reason}`);
  });

  it("trains one run alone where it is asked to, by its place or name", async () => {
    const training = await prepareTraining(GRID);
    expect((await sweep(training, ["--only", "2"])).code).toBe(0);
    expect((await sweep(training, ["--only", NAMES[1]!])).code).toBe(0);
    expect((await readdir(training.output)).sort()).toEqual([NAMES[1], NAMES[2]]);
    const wrong = await sweep(training, ["--only", "4"]);
    expect(wrong).toMatchObject({
      code: 2,
      stderr:
        'dpo-train: --only must be the name of a run, or its place from 0 to 3, got "4"; --dry-run lists the runs\n',
    });
  });

  it("refuses to mix runs of other settings or other data, and changes nothing", async () => {
    const training = await prepareTraining(GRID);
    await sweep(training, ["--only", "0"]);
    const before = await read(training.output, NAMES[0]!, "run.json");
    const other = await sweep(training, ["--set", "weight_decay=0.3"]);
    expect(other.code).toBe(2);
    expect(other.stderr).toContain("had other settings: weight_decay was 0, and is 0.3; choose another output_dir");
    expect((await read(training.output, NAMES[0]!, "run.json")).equals(before)).toBe(true);
    expect(await readdir(training.output)).toEqual([NAMES[0]]);
    const data = join(training.folder, "rows.jsonl");
    await writeFile(data, '{"prompt":"a","chosen":"b","rejected":"c"}\n');
    await rm(join(training.output, NAMES[0]!), { recursive: true });
    await sweep(training, ["--only", "0", "--set", `dataset=${data}`]);
    await writeFile(data, '{"prompt":"a","chosen":"b","rejected":"d"}\n');
    const changed = await sweep(training, ["--set", `dataset=${data}`]);
    expect(changed.code).toBe(2);
    expect(changed.stderr).toContain("rows.jsonl: the data has changed since the run");
  });

  it("finds what is wrong with any run before the first one begins", async () => {
    const training = await prepareTraining(`sweep: {grid: {init_adapter: [null, /nowhere]}}\n`);
    const ended = await sweep(training);
    expect(ended.code).toBe(2);
    expect(ended.stderr).toContain("/nowhere");
    await expect(readdir(training.output)).rejects.toThrow("ENOENT");
  });

  it("lists its runs with --dry-run, and writes nothing", async () => {
    const training = await prepareTraining(GRID);
    const { code, stdout } = await sweep(training, ["--dry-run"]);
    expect(code).toBe(0);
    for (const [i, name] of NAMES.entries()) expect(stdout).toContain(`\n  ${i}  ${name}\n`);
    await expect(readdir(training.output)).rejects.toThrow("ENOENT");
  });
});
