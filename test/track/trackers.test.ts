import { copyFile, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { TRACKERS, type TrackerName } from "../../src/config/names.ts";
import { findTrackers } from "../../src/track/environment.ts";
import { startTracking, syncRun, type TrackingTiming } from "../../src/track/tracking.ts";
import { KEYS, type Loopback, type Point, startLoopback } from "./loopback.ts";
import { beginRun, type TestRun } from "./run-folder.ts";

const REMOTE = TRACKERS.filter((name) => name !== "tensorboard");
const FAST: TrackingTiming = { pollMs: 5, firstWaitMs: 5, maxWaitMs: 20, endingMs: 5000, failingEndingMs: 5000 };
const NEVER = new AbortController().signal;

const trackerOf = (name: TrackerName, { folder }: TestRun, { environment }: Pick<Loopback, "environment">) =>
  findTrackers([name], environment)[0]!(folder);
const sorted = (points: readonly Point[]) => points.map((point) => JSON.stringify(point)).sort();
/** MLflow has the trainer's names, the others transformers' groups of them. */
const expected = (name: TrackerName, run: TestRun) => sorted(run.points(name !== "mlflow"));
const onlyRun = ({ runs }: Loopback) => {
  expect(runs.size).toBe(1);
  return [...runs.values()][0]!;
};
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function allFiles(folder: string): Promise<string> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return (await Promise.all(files.map((file) => readFile(file, "latin1")))).join("\n");
}

function requireNoKey(text: string): void {
  for (const key of Object.values(KEYS)) {
    for (const form of [key, Buffer.from(`api:${key}`).toString("base64"), Buffer.from(key).toString("base64")]) {
      expect(text).not.toContain(form);
    }
  }
}

describe.each(REMOTE)("%s", (name) => {
  it("gets hyperparameters, every point, the summary and the samples while the run goes on", async () => {
    const server = await startLoopback();
    const run = await beginRun();
    const notices: string[] = [];
    const tracking = startTracking(run.folder, [trackerOf(name, run, server)], (text) => notices.push(text), FAST);
    for (let i = 0; i < 12; i++) {
      await run.train(i);
      await sleep(4);
    }
    await run.end("done");
    await tracking.end();
    const remote = onlyRun(server);
    expect(server.violations).toEqual([]);
    expect(sorted(remote.points)).toEqual(expected(name, run));
    expect(remote).toMatchObject({ name: "first run" });
    expect(remote.project).toContain("runs");
    expect(Object.fromEntries(remote.parameters)).toMatchObject({
      "lora.r": "8",
      beta: "0.1",
      loss_type: '["sigmoid"]',
    });
    const texts = [...remote.texts].map(([key, text]) => `${key}: ${text}`).join("\n");
    for (const part of ["I, *dpo-train* 🙂", "Nobody.", "Who?", "speed.pairs_per_second: 12.5", "final.eval_loss"]) {
      expect(texts).toContain(part);
    }
    if (name === "mlflow") expect(remote.status).toBe("FINISHED");
    if (name === "wandb") expect(remote.status).toBe("exit 0");
    expect(notices).toEqual([expect.stringMatching(`^${name}: http`)]);
    requireNoKey((await allFiles(run.folder)) + notices.join("\n"));
  });

  it("misses and doubles no point where every kind of request fails in every way", async () => {
    const server = await startLoopback();
    const run = await beginRun();
    await run.train(50);
    await run.end("done");
    // Each third request fails: unheard, heard but unanswered, or with a status.
    const faults = ["before", "after", 429, "after", 500, 503] as const;
    // Comet cannot be asked for a run whose key was lost on the way: that is tested below.
    const isSafe = (path: string) => name === "comet_ml" && path.endsWith("/create");
    server.fault = ({ nth, path }) =>
      nth % 3 === 1 && !isSafe(path) ? faults[Math.floor(nth / 3) % faults.length]! : null;
    for (let attempt = 0; attempt < 100; attempt++) {
      // A new sender each time, as another process would have it.
      const { problem } = await syncRun(run.folder, trackerOf(name, run, server), NEVER, FAST);
      if (problem === null) break;
    }
    expect(server.violations).toEqual([]);
    expect(sorted(onlyRun(server).points)).toEqual(expected(name, run));
    const requests = server.seen.length;
    server.fault = () => null;
    const again = await syncRun(run.folder, trackerOf(name, run, server), NEVER, FAST);
    expect(again).toMatchObject({ sent: 60, problem: null });
    expect(server.seen).toHaveLength(requests);
  });

  it("goes on where a killed run goes on from its checkpoint", async () => {
    const server = await startLoopback();
    const run = await beginRun();
    await run.train(23);
    await run.end("failed");
    expect(await syncRun(run.folder, trackerOf(name, run, server), NEVER, FAST)).toMatchObject({ sent: 27 });
    await run.rewind(12);
    await run.end("running");
    const tracking = startTracking(run.folder, [trackerOf(name, run, server)], () => {}, FAST);
    for (let i = 0; i < 10; i++) {
      await run.train(2);
      await sleep(4);
    }
    await run.end("done");
    await tracking.end();
    expect(server.violations).toEqual([]);
    expect(sorted(onlyRun(server).points)).toEqual(expected(name, run));
  });

  it("takes another run in the same folder for another run", async () => {
    const server = await startLoopback();
    const run = await beginRun();
    await run.train(8);
    await run.end("failed");
    await syncRun(run.folder, trackerOf(name, run, server), NEVER, FAST);
    for (const steps of [3, 30]) {
      const other = await beginRun(steps);
      await other.train(steps);
      await copyFile(join(other.folder, "metrics.jsonl"), join(run.folder, "metrics.jsonl"));
      await run.end("done");
      await syncRun(run.folder, trackerOf(name, run, server), NEVER, FAST);
      expect(sorted([...server.runs.values()].at(-1)!.points)).toEqual(expected(name, other));
    }
    expect(server.runs.size).toBe(3);
    expect(server.violations).toEqual([]);
  });

  it("says a wrong key once, does not go on with it, and sends later with the right one", async () => {
    const server = await startLoopback();
    const run = await beginRun();
    const wrong = {
      ...server.environment,
      COMET_API_KEY: "wrong-1",
      WANDB_API_KEY: "wrong-2",
      MLFLOW_TRACKING_TOKEN: "wrong-3",
    };
    const notices: string[] = [];
    const tracking = startTracking(
      run.folder,
      [trackerOf(name, run, { environment: wrong })],
      (text) => notices.push(text),
      FAST,
    );
    await run.train(6);
    while (notices.length === 0) await sleep(10);
    await run.end("done");
    await tracking.end();
    expect(server.seen).toHaveLength(1);
    expect(notices).toHaveLength(1);
    expect(notices[0]).toMatch(/does not accept .*_(KEY|TOKEN).* \(401\): training goes on, not sent.*report --sync/);
    expect(notices[0]).not.toContain("wrong-");
    expect(await syncRun(run.folder, trackerOf(name, run, server), NEVER, FAST)).toMatchObject({
      sent: 7,
      problem: null,
    });
    expect(sorted(onlyRun(server).points)).toEqual(expected(name, run));
  });

  it("waits some moments at most for a server that is slow or gone, and says how to send the rest", async () => {
    const server = await startLoopback();
    const run = await beginRun();
    const notices: string[] = [];
    server.delayMs = 2000;
    const timing = { ...FAST, endingMs: 100, failingEndingMs: 50 };
    const tracking = startTracking(run.folder, [trackerOf(name, run, server)], (text) => notices.push(text), timing);
    await run.train(6);
    await run.end("done");
    const startMs = performance.now();
    await tracking.end();
    expect(performance.now() - startMs).toBeLessThan(1000);
    expect(notices.at(-1)).toMatch(/not all is sent \(0 records are\); to send the rest: dpo-train report --sync/);
    await server.close();
    const gone = startTracking(run.folder, [trackerOf(name, run, server)], (text) => notices.push(text), timing);
    while (!notices.at(-1)?.includes("training goes on")) await sleep(10);
    await gone.end();
    expect(notices.at(-2)).toMatch(/cannot be reached \(.*\): training goes on, trying again in the background/);
    expect(notices.at(-1)).toContain("report --sync");
  });
});

it("a run that leaves nothing behind leaves nothing of its tracking either", async () => {
  const server = await startLoopback();
  const run = await beginRun();
  const notices: string[] = [];
  const trackers = (["tensorboard", "wandb"] as const).map((name) => trackerOf(name, run, server));
  const tracking = startTracking(run.folder, trackers, (text) => notices.push(text), FAST);
  while (notices.length < 2) await sleep(10);
  for (const name of ["config.yaml", "run.json", "metrics.jsonl"]) await rm(join(run.folder, name));
  await tracking.end();
  expect(await readdir(run.folder)).toEqual([]);
});

it("Comet: an answer to its creation that is lost leaves an experiment without points, and no point twice", async () => {
  const server = await startLoopback();
  const run = await beginRun();
  await run.train(3);
  await run.end("done");
  server.fault = ({ nth }) => (nth === 1 ? "after" : null);
  expect(await syncRun(run.folder, trackerOf("comet_ml", run, server), NEVER, FAST)).toMatchObject({ problem: null });
  const [empty, full] = [...server.runs.values()];
  expect(empty!.points).toEqual([]);
  expect(sorted(full!.points)).toEqual(expected("comet_ml", run));
});

it("a message never shows a key that the server says back", async () => {
  const server = await startLoopback();
  const run = await beginRun();
  await run.train(1);
  const environment = { ...server.environment, WANDB_PROJECT: "p" };
  server.fault = () => 418;
  const tracker = { ...trackerOf("wandb", run, { environment }), secrets: ["injected 418"] };
  const { problem } = await syncRun(run.folder, tracker, NEVER, FAST);
  expect(problem).toContain('answered 418: {"error":"***"}');
});
