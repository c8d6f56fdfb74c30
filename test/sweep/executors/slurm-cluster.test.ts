import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { quote } from "../../../src/sweep/executors/shell.ts";
import { runOnSlurm, type SlurmOptions } from "../../../src/sweep/executors/slurm.ts";
import { type FakePlan, type FakeSweep, fakeSweep, type Interval, mostAtOnce } from "./fake-sweep.ts";
import { type SlurmCluster, startSlurm, until, whyNoSlurm } from "./slurm-cluster.ts";

const reason = whyNoSlurm();
const POLL_INTERVAL_MS = 300;

describe.skipIf(reason !== null)(`on a real Slurm cluster${reason === null ? "" : `: skipped, ${reason}`}`, () => {
  let cluster: SlurmCluster;
  let sweep: FakeSweep;
  const environment = { ...process.env };

  beforeAll(async () => {
    cluster = await startSlurm();
    process.env.SLURM_CONF = cluster.configFile;
  });

  afterEach(async () => {
    await cluster.command("scancel", "--user=root");
    await until("the queue to be empty", async () => (await cluster.command("squeue", "-h")) === "");
    process.env.PATH = environment.PATH;
    sweep.remove();
  });

  afterAll(async () => {
    process.env = environment;
    await cluster?.stop();
  });

  function follow(plans: readonly FakePlan[], options: Partial<SlurmOptions> = {}) {
    sweep = fakeSweep(plans);
    return runOnSlurm({
      ...sweep.options,
      sweepId: "a",
      throttle: null,
      sbatchOptions: [],
      pollIntervalMs: POLL_INTERVAL_MS,
      ...options,
    });
  }
  const isRunning = (run: string) => () => sweep.intervals(run).some(({ end }) => end === Infinity);
  const all = () => sweep.tasks.flatMap(({ index }) => sweep.intervals(String(index)));
  const jobsSubmitted = () => new Set(all().map(({ jobId }) => jobId)).size;
  const told = (text: string) => sweep.lines.filter((line) => line.includes(text));
  const overlap = (a: Interval, b: Interval) => a !== b && a.gpu === b.gpu && a.begin < b.end && b.begin < a.end;

  it("trains each run once, with a GPU of its own, within the throttle", async () => {
    expect(await follow(Array(7).fill({ total: 10 }), { throttle: 2 })).toEqual([]);
    expect(sweep.statuses()).toEqual(Array(7).fill("done"));
    expect(all()).toHaveLength(7);
    expect(mostAtOnce(all())).toBe(2);
    expect(all().every(({ gpu }) => /^\d$/.test(gpu))).toBe(true);
    const runs = all();
    expect(runs.filter((one) => runs.some((other) => overlap(one, other)))).toEqual([]);
    expect(jobsSubmitted()).toBe(1);
    expect(sweep.changes()).toBeGreaterThan(2);
    const { jobs } = JSON.parse(readFileSync(join(sweep.folder, "slurm", "jobs.json"), "utf8"));
    expect(jobs).toMatchObject([{ tasks: "0-6%2" }]);
  });

  it("uses all GPUs without a throttle, and submits only the runs that are not at their end", async () => {
    sweep = fakeSweep(Array(9).fill({ total: 16 }));
    const tasks = sweep.tasks.filter(({ index }) => index !== 1 && index !== 4);
    const options = {
      ...sweep.options,
      sweepId: "a",
      tasks,
      throttle: null,
      sbatchOptions: [],
      pollIntervalMs: POLL_INTERVAL_MS,
    };
    expect(await runOnSlurm(options)).toEqual([]);
    expect(mostAtOnce(all())).toBe(3);
    expect(sweep.statuses().map((status) => status === "done")).toEqual([1, 0, 1, 1, 0, 1, 1, 1, 1].map(Boolean));
    expect(told("submitted job array")[0]).toContain("(0,2-3,5-8)");
  });

  it("takes the user's options, as one word or two", async () => {
    await follow([{}], { sbatchOptions: ["--gres=gpu:2", "--partition high", "--comment=two words"] });
    expect(sweep.intervals("0")[0]!.gpu).toBe("0,1");
  });

  it("reports a run that failed with the end of its log, and does not begin it again", async () => {
    expect(await follow([{ outcome: "failed" }, {}])).toEqual([]);
    expect(sweep.statuses()).toEqual(["failed", "done"]);
    expect(sweep.intervals("0")).toHaveLength(1);
    expect(told("run 0: failed")[0]).toMatch(/slurm\/0\.log ends with\n {4}run 0 begins at step 0$/);
  });

  it("begins a run again that crashes, as often as it may", async () => {
    const unfinished = await follow([{ crashes: 2 }, { outcome: "crash" }], { retries: 2 });
    expect(sweep.statuses()[0]).toBe("done");
    expect(sweep.intervals("0")).toHaveLength(3);
    expect(sweep.intervals("1")).toHaveLength(3);
    expect(unfinished.map(({ task }) => task.index)).toEqual([1]);
    expect(unfinished[0]!.reason).toMatch(/as FAILED before the run's end, 3 times without getting further: /);
    expect(unfinished[0]!.reason).toMatch(/\n {4}the device was lost$/);
    expect(told("submitting it again (2 of 2)")).toHaveLength(2);
  });

  it("submits again what was preempted, which had saved", async () => {
    const training = follow([{ total: 60 }, { total: 60 }, { total: 60 }]);
    await until("all runs to be at work", () => ["0", "1", "2"].every((run) => isRunning(run)()));
    const wrap = ["--partition=high", "--gres=gpu:2", "--output=/dev/null", "--wrap=sleep 1"];
    await cluster.command("sbatch", ...wrap);
    expect(await training).toEqual([]);
    expect(sweep.statuses()).toEqual(["done", "done", "done"]);
    expect(told("as PREEMPTED")).toHaveLength(2);
    const logs = ["0", "1", "2"].map((run) => readFileSync(join(sweep.folder, "slurm", `${run}.log`), "utf8"));
    expect(logs.filter((log) => /begins at step ([1-9]|[1-5]\d)\n/.test(log))).toHaveLength(2);
  });

  it("submits again what was killed or told to end", async () => {
    const training = follow([{ total: 40 }, { total: 40 }]);
    await until("both runs to be at work", () => isRunning("0")() && isRunning("1")());
    process.kill(sweep.pidOf("0"), "SIGKILL");
    const { jobId } = sweep.intervals("1")[0]!;
    await cluster.command("scancel", "--signal=TERM", "--batch", `${jobId}_1`);
    expect(await training).toEqual([]);
    expect(sweep.statuses()).toEqual(["done", "done"]);
    expect(sweep.intervals("0")).toHaveLength(2);
    expect(sweep.intervals("1")).toHaveLength(2);
    expect(told("submitting it again (1 of 3)")).toHaveLength(2);
  });

  it("keeps the throttle when it submits again beside an array that is at work", async () => {
    const training = follow([{ total: 40 }, ...Array(4).fill({ total: 20 })], { throttle: 2 });
    await until("a run to be at work", isRunning("0"));
    process.kill(sweep.pidOf("0"), "SIGKILL");
    expect(await training).toEqual([]);
    expect(sweep.statuses()).toEqual(Array(5).fill("done"));
    expect(sweep.intervals("0")).toHaveLength(2);
    const killed = { ...sweep.intervals("0")[0]!, end: 0 };
    expect(mostAtOnce([...all().filter(({ end }) => end < Infinity), killed])).toBe(2);
  });

  it("leaves alone what was cancelled, and submits it when started again", async () => {
    const training = follow([{ total: 100 }, { total: 10 }]);
    await until("the run to be at work", isRunning("0"));
    await cluster.command("scancel", `${sweep.intervals("0")[0]!.jobId}_0`);
    const unfinished = await training;
    expect(unfinished).toMatchObject([{ task: { index: 0 }, reason: expect.stringContaining("as CANCELLED") }]);
    expect(sweep.statuses()).toEqual(["interrupted", "done"]);

    writeFileSync(join(sweep.folder, "0", "plan"), "total=10\n");
    const again = { ...sweep.options, sweepId: "a", tasks: [sweep.tasks[0]!], throttle: null, sbatchOptions: [] };
    expect(await runOnSlurm({ ...again, pollIntervalMs: POLL_INTERVAL_MS })).toEqual([]);
    expect(sweep.statuses()).toEqual(["done", "done"]);
  });

  it.each([
    ["lets Slurm requeue what was on a node that failed", [], 0],
    ["submits again what was on a node that failed where nothing is requeued", ["--no-requeue"], 1],
  ])("%s", async (_, sbatchOptions, submittedAgain) => {
    const training = follow([{ total: 30 }], { sbatchOptions });
    await until("the run to be at work", isRunning("0"));
    const { jobId } = sweep.intervals("0")[0]!;
    await cluster.command("scontrol", "update", `nodename=${cluster.node}`, "state=down", "reason=test");
    await until("the run to have ended", () => !isRunning("0")());
    // The node comes back by itself. Slurm lets two minutes pass before a requeued job, so that what is still told of the
    // lost process is not taken for the new one.
    await delay(1500);
    if (submittedAgain === 0) await cluster.command("scontrol", "update", `jobid=${jobId}_0`, "starttime=now");
    expect(await training).toEqual([]);
    expect(sweep.statuses()).toEqual(["done"]);
    expect(sweep.intervals("0")).toHaveLength(2);
    expect(told("submitting it again")).toHaveLength(submittedAgain);
  });

  it("says that a task is held, and goes on when it is released", async () => {
    const training = follow([{}], { sbatchOptions: ["--hold"] });
    const line = await until("the hold to be told", () => told("held by Slurm")[0]);
    const [, jobTask] = /scontrol release (\d+_0)/.exec(line!)!;
    await cluster.command("scontrol", "release", jobTask!);
    expect(await training).toEqual([]);
  });

  it("waits out a restart of the controller", async () => {
    const training = follow(Array(4).fill({ total: 30 }), { throttle: 2 });
    await until("a run to be at work", isRunning("0"));
    await cluster.stopController();
    await until("the trouble to be told", () => told("squeue says").length > 0);
    await cluster.startController();
    expect(await training).toEqual([]);
    expect(sweep.statuses()).toEqual(Array(4).fill("done"));
    expect(all()).toHaveLength(4);
    expect(told("Slurm answers again").length).toBeGreaterThan(0);
  });

  it("leaves the jobs at work when interrupted, says how to go on, and then follows them", async () => {
    const controller = new AbortController();
    const interruption = new Error("interrupted");
    const training = follow(Array(3).fill({ total: 40 }), { signal: controller.signal });
    const rejected = expect(training).rejects.toBe(interruption);
    await until("the runs to be at work", isRunning("2"));
    controller.abort(interruption);
    await rejected;
    expect(sweep.lines.at(-1)).toMatch(
      /the same command follows them again, and scancel --name=dpo-train-\S+ ends them/,
    );
    const options = {
      ...sweep.options,
      sweepId: "a",
      throttle: null,
      sbatchOptions: [],
      pollIntervalMs: POLL_INTERVAL_MS,
    };
    expect(await runOnSlurm(options)).toEqual([]);
    expect(told("following 3 tasks that are in the queue already")).toHaveLength(1);
    expect(all()).toHaveLength(3);
    expect(sweep.statuses()).toEqual(Array(3).fill("done"));
  });

  describe("a follower that is killed and started again submits nothing twice", () => {
    const follower = fileURLToPath(new URL("slurm-follower.ts", import.meta.url));

    function startFollower(pollIntervalMs: number) {
      const args = [
        "--import",
        "tsx",
        follower,
        sweep.folder,
        join(sweep.folder, "tasks.json"),
        String(pollIntervalMs),
      ];
      return spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"], detached: true });
    }
    async function start(untilLine: RegExp | null, pollIntervalMs = POLL_INTERVAL_MS): Promise<string> {
      const child = startFollower(pollIntervalMs);
      let output = "";
      child.stdout.on("data", (text) => {
        output += text;
        if (untilLine?.test(output)) child.kill("SIGKILL");
      });
      await once(child, "close");
      expect(child.signalCode).toBe(untilLine === null ? null : "SIGKILL");
      return output;
    }
    function begin(): void {
      sweep = fakeSweep(Array(5).fill({ total: 30 }));
      writeFileSync(join(sweep.folder, "tasks.json"), JSON.stringify(sweep.tasks));
    }
    function expectEachOnce(): void {
      expect(sweep.statuses()).toEqual(Array(5).fill("done"));
      expect(all()).toHaveLength(5);
      expect(jobsSubmitted()).toBe(1);
      expect(mostAtOnce(all())).toBe(2);
    }
    /** Puts a script in place of sbatch, which may use `$asked`, a file to write. Returns that file. */
    function putSbatch(script: string): string {
      const folder = join(sweep.folder, "programs");
      mkdirSync(folder);
      const asked = join(folder, "asked");
      writeFileSync(join(folder, "sbatch"), `#!/bin/sh\nasked=${quote(asked)}\n${script}\n`);
      chmodSync(join(folder, "sbatch"), 0o755);
      process.env.PATH = `${folder}:${environment.PATH}`;
      return asked;
    }

    it("while it follows", async () => {
      begin();
      await start(/submitted job array/);
      await start(/2 running/);
      expect(await start(null)).toContain("in the queue already");
      expectEachOnce();
    });

    it("after sbatch had taken the job, and before it heard so", async () => {
      begin();
      const taken = putSbatch('/usr/bin/sbatch "$@" >"$asked"; exec sleep 60');
      const child = startFollower(POLL_INTERVAL_MS);
      await until("sbatch to have taken the job", () => existsSync(taken) && readFileSync(taken, "utf8") !== "");
      process.kill(-child.pid!, "SIGKILL");
      await once(child, "close");

      process.env.PATH = environment.PATH;
      expect(await start(null)).toContain("in the queue already");
      expectEachOnce();
    });

    it("while sbatch asks, which goes on by itself", async () => {
      begin();
      const asked = putSbatch('touch "$asked"; sleep 1.2; exec /usr/bin/sbatch "$@"');
      const child = startFollower(POLL_INTERVAL_MS);
      await until("sbatch to be at work", () => existsSync(asked));
      child.kill("SIGKILL");
      await once(child, "exit");

      process.env.PATH = environment.PATH;
      expect(await start(null, 1000)).not.toContain("submitted job array");
      expectEachOnce();
    });
  });
});
