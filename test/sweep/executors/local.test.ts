import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { type Place, sharedPlaces } from "../../../src/sweep/executors/gpu-pinning.ts";
import { type LocalOptions, runLocally } from "../../../src/sweep/executors/local.ts";
import { type FakePlan, type FakeSweep, fakeSweep, mostAtOnce } from "./fake-sweep.ts";
import { until } from "./slurm-cluster.ts";

describe("the processes of a sweep on one machine", () => {
  let sweep: FakeSweep;
  afterEach(() => sweep.remove());

  function train(plans: readonly FakePlan[], options: Partial<LocalOptions> = {}) {
    sweep = fakeSweep(plans);
    return runLocally({ ...sweep.options, places: sharedPlaces(2), ...options });
  }
  const runs = () => sweep.tasks.flatMap(({ index }) => sweep.intervals(String(index)));
  const isRunning = (run: string) => () => sweep.intervals(run).some(({ end }) => end === Infinity);
  const told = (text: string) => sweep.lines.filter((line) => line.includes(text));
  const logOf = (run: number) => readFileSync(join(sweep.folder, "local", `run ${run}.log`), "utf8");

  it("train each run once, one in each place at a time", async () => {
    expect(await train(Array(6).fill({ total: 6 }))).toEqual([]);
    expect(sweep.statuses()).toEqual(Array(6).fill("done"));
    const intervals = runs();
    expect(intervals).toHaveLength(6);
    expect(mostAtOnce(intervals)).toBe(2);
    for (const gpu of ["0", "1"]) expect(mostAtOnce(intervals.filter((one) => one.gpu === gpu))).toBe(1);
    expect(logOf(3)).toBe("run 3 begins at step 0\n");
    expect(told("run 3: done")).toHaveLength(1);
    expect(sweep.changes()).toBe(12);
  });

  it("are none where nothing is left to train", async () => {
    expect(await train([])).toEqual([]);
  });

  it("are begun again after a crash, as often as they may be", async () => {
    const unfinished = await train([{ crashes: 2 }, { outcome: "crash" }], { retries: 2, places: sharedPlaces(1) });
    expect(sweep.statuses()[0]).toBe("done");
    expect(sweep.intervals("0")).toHaveLength(3);
    expect(sweep.intervals("1")).toHaveLength(3);
    expect(unfinished.map(({ task }) => task.index)).toEqual([1]);
    expect(unfinished[0]!.reason).toContain("its process ended with exit code 3 before the run's end, 3 times without");
    expect(unfinished[0]!.reason).toMatch(
      /run 1\.log ends with\n.*(\n {4}run 1 begins at step 0\n {4}the device was lost){2}$/,
    );
  });

  it("are begun again when they were told to end, and may be more often where they got further", async () => {
    const training = train([{ total: 60 }, {}], { retries: 1 });
    for (const attempt of [1, 2]) {
      await until("the run to be at work", () => sweep.intervals("0").length === attempt && isRunning("0")());
      await delay(500);
      process.kill(sweep.pidOf("0"), "SIGTERM");
    }
    expect(await training).toEqual([]);
    expect(sweep.statuses()).toEqual(["done", "done"]);
    expect(told("its process ended with exit code 143; beginning it again later (1 of 1)")).toHaveLength(2);
  });

  it("are begun again when they were killed, as often as they may be", async () => {
    const training = train([{ total: 60 }], { retries: 1 });
    for (const attempt of [1, 2]) {
      await until("the run to be at work", () => sweep.intervals("0").length === attempt && isRunning("0")());
      process.kill(sweep.pidOf("0"), "SIGKILL");
    }
    const [given] = await training;
    expect(given!.reason).toMatch(
      /^its process was ended by SIGKILL before the run's end, 2 times without getting further/,
    );
  });

  it("are not begun again after what would come again", async () => {
    const unfinished = await train([{ outcome: "failed" }, {}], {
      places: sharedPlaces(1),
      statusOf: async ({ index }) => (index === 0 ? "failed" : "done"),
    });
    expect(unfinished).toEqual([]);
    expect(told("run 0: failed")[0]).toMatch(/local\/run 0\.log ends with\n {4}run 0 begins at step 0$/);

    sweep.remove();
    const badInput: Place = { ...sharedPlaces(1)[0]!, wrap: () => ["sh", "-c", "echo what is wrong; exit 2"] };
    const [given] = await train([{}], { places: [badInput] });
    expect(given!.reason).toMatch(/^its process ended with exit code 2 before the run's end; .*\n {4}what is wrong$/);
    expect(told("again")).toEqual([]);
  });

  it("leave out a place on which they break off, and train on the others", async () => {
    const broken: Place = { ...sharedPlaces(1)[0]!, name: "GPU 7", wrap: () => ["sh", "-c", "exit 3"] };
    expect(await train(Array(8).fill({ total: 4 }), { places: [broken, ...sharedPlaces(1)] })).toEqual([]);
    expect(sweep.statuses()).toEqual(Array(8).fill("done"));
    expect(told("GPU 7 is left out: 2 processes one after the other broke off on it")).toHaveLength(1);
  });

  it("tell why they could not be begun", async () => {
    const missing: Place = { ...sharedPlaces(1)[0]!, wrap: () => ["/nowhere/program"] };
    const [given] = await train([{}], { places: [missing], retries: 0 });
    expect(given!.reason).toMatch(/could not be begun \(spawn \/nowhere\/program ENOENT\).*; there is nothing in/);
  });

  it("save and end when the sweep is interrupted, which waits for them, and then go on from there", async () => {
    const controller = new AbortController();
    const interruption = new Error("interrupted");
    const rejected = expect(train(Array(3).fill({ total: 40 }), { signal: controller.signal })).rejects.toBe(
      interruption,
    );
    await until("two runs to be at work", () => isRunning("0")() && isRunning("1")());
    controller.abort(interruption);
    await rejected;
    expect(sweep.statuses()).toEqual(["interrupted", "interrupted", "pending"]);
    expect(runs().every(({ end }) => end < Infinity)).toBe(true);

    expect(await runLocally({ ...sweep.options, places: sharedPlaces(2) })).toEqual([]);
    expect(sweep.statuses()).toEqual(Array(3).fill("done"));
    expect(logOf(0)).toMatch(/begins at step 0\nrun 0 begins at step [1-9]/);
  });

  it("are none when the sweep was interrupted before", async () => {
    const interruption = new Error("interrupted");
    await expect(train([{}], { signal: AbortSignal.abort(interruption) })).rejects.toBe(interruption);
    expect(runs()).toEqual([]);
  });

  it("end when the sweep fails", async () => {
    const training = train([{ total: 200 }, { total: 2 }], {
      statusOf: async () => {
        throw new Error("no such folder");
      },
    });
    await expect(training).rejects.toThrow("no such folder");
    expect(sweep.statuses()).toEqual(["interrupted", "done"]);
  });

  it.each(["SIGINT", "SIGTERM"] as const)("hear %s once, also where a terminal sends it to all", async (name) => {
    sweep = fakeSweep(Array(3).fill({ total: 200 }));
    writeFileSync(join(sweep.folder, "tasks.json"), JSON.stringify(sweep.tasks));
    const runner = fileURLToPath(new URL("local-runner.ts", import.meta.url));
    const args = ["--import", "tsx", runner, sweep.folder, join(sweep.folder, "tasks.json")];
    const child = spawn(process.execPath, args, { stdio: "ignore", detached: true });
    await until("two runs to be at work", () => isRunning("0")() && isRunning("1")());
    process.kill(-child.pid!, name);
    await once(child, "close");
    expect(child.exitCode).toBe(name === "SIGINT" ? 130 : 143);
    expect(sweep.statuses()).toEqual(["interrupted", "interrupted", "pending"]);
  });
});
