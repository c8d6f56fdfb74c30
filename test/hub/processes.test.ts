import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type LockTiming, withLock } from "../../src/hub/lock.ts";
import { resolveModel } from "../../src/hub/resolve.ts";
import { type Fixture, pattern, QUICK, REPOSITORY, startFixture } from "./fixture.ts";
import { COMMIT } from "./loopback-hub.ts";

const PART_BYTES = 300_000;
const PROGRAM = fileURLToPath(new URL("download-process.ts", import.meta.url));

describe("several processes that download the same model", () => {
  let fixture: Fixture;
  const running: ChildProcess[] = [];

  beforeEach(async () => {
    fixture = await startFixture();
    fixture.files.set("model.safetensors", pattern(3_000_000, 11));
  });
  afterEach(async () => {
    for (const child of running.splice(0)) child.kill("SIGKILL");
    await fixture.close();
  });

  function start(): { child: ChildProcess; text: () => string; closed: Promise<unknown> } {
    const child = spawn(process.execPath, ["--import", "tsx", PROGRAM, REPOSITORY], {
      env: { PATH: process.env.PATH, ...fixture.env },
    });
    running.push(child);
    let text = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (chunk) => {
        text += chunk;
      });
    }
    return { child, text: () => text, closed: once(child, "close") };
  }

  /** Sends a part of the weights, and the rest when `isTime`. */
  function holdBack(isTime: () => boolean): void {
    const weights = fixture.files.get("model.safetensors")!;
    fixture.hub.fault = ({ server, range }, response) => {
      if (server !== "cdn" || range) return false;
      response.writeHead(200, { "content-length": weights.length }).write(weights.subarray(0, PART_BYTES));
      const waiting = setInterval(() => {
        if (!isTime() || response.destroyed) return;
        clearInterval(waiting);
        response.end(weights.subarray(PART_BYTES));
      }, 20);
      response.on("close", () => clearInterval(waiting));
      return true;
    };
  }

  async function expectWeights(folder: string): Promise<void> {
    const content = await readFile(join(folder, "model.safetensors"));
    expect(content.equals(fixture.files.get("model.safetensors")!)).toBe(true);
  }

  const weightRequests = () => fixture.hub.seen.filter(({ server }) => server === "cdn");

  it("download it once, and all have it", async () => {
    const processes = [start(), start()];
    holdBack(() => processes.some(({ text }) => text().includes("waiting for another process that downloads it")));
    await Promise.all(processes.map(({ closed }) => closed));
    const folder = join(fixture.repositoryPath, "snapshots", COMMIT);
    for (const { text } of processes) expect(text()).toContain(`download ${folder}\n`);
    expect(weightRequests()).toHaveLength(1);
    await expectWeights(folder);
  });

  it("go on at once where a killed one stopped", async () => {
    holdBack(() => false);
    const { child, closed } = start();
    const blobs = join(fixture.repositoryPath, "blobs");
    const partialSizeBytes = async () => {
      const partial = (await readdir(blobs).catch(() => [])).find((name) => name.endsWith(".incomplete"));
      return partial ? (await stat(join(blobs, partial))).size : 0;
    };
    await expect.poll(partialSizeBytes, { timeout: 20_000, interval: 20 }).toBe(PART_BYTES);
    child.kill("SIGKILL");
    await closed;
    const notices: string[] = [];
    const onNotice = (message: string) => notices.push(message);
    const model = await resolveModel(REPOSITORY, { env: fixture.env, timing: QUICK, onNotice });
    expect(notices).toEqual([]);
    expect(weightRequests().at(-1)?.range).toBe(`bytes=${PART_BYTES}-`);
    await expectWeights(model.folder);
  });

  it("within one process wait for each other too", async () => {
    const options = { env: fixture.env, timing: QUICK };
    const models = await Promise.all([1, 2, 3].map(() => resolveModel(REPOSITORY, options)));
    for (const model of models) expect(model).toEqual(models[0]);
    expect(weightRequests()).toHaveLength(1);
  });
});

describe("the lock", () => {
  const timing: LockTiming = { heartbeatMs: 50, stalePolls: 40, pollMs: 10 };
  let folder: string;
  let path: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "dpo-train-lock-"));
    path = join(folder, "locks", "a.lock");
    await mkdir(join(folder, "locks"));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it("lets one work at a time, and leaves no file", async () => {
    let working = 0;
    let done = 0;
    const work = async () => {
      working += 1;
      expect(working).toBe(1);
      await new Promise((resolve) => setTimeout(resolve, 5));
      working -= 1;
      done += 1;
    };
    await Promise.all(Array.from({ length: 8 }, () => withLock(path, () => {}, work, undefined, timing)));
    expect(done).toBe(8);
    expect(await readdir(join(folder, "locks"))).toEqual([]);
  });

  it("is let go when the work fails", async () => {
    const failing = withLock(
      path,
      () => {},
      () => Promise.reject(new Error("broken")),
      undefined,
      timing,
    );
    await expect(failing).rejects.toThrow("broken");
    expect(
      await withLock(
        path,
        () => {},
        () => Promise.resolve(7),
        undefined,
        timing,
      ),
    ).toBe(7);
  });

  it("of another machine is taken over only after it has been silent for long", async () => {
    await writeFile(path, "other-machine/pid:[1] 1 0000");
    const beating = setInterval(() => void utimes(path, new Date(), new Date()), 100);
    setTimeout(() => clearInterval(beating), 500);
    let waits = 0;
    const startMs = performance.now();
    const onWait = () => {
      waits += 1;
    };
    // Eight takers at once: the first to take it over must not lose it to the next.
    let working = 0;
    const work = async () => {
      working += 1;
      expect(working).toBe(1);
      await new Promise((resolve) => setTimeout(resolve, 2));
      working -= 1;
    };
    await Promise.all(Array.from({ length: 8 }, () => withLock(path, onWait, work, undefined, timing)));
    expect(performance.now() - startMs).toBeGreaterThan(850);
    expect(waits).toBe(8);
    expect(await readdir(join(folder, "locks"))).toEqual([]);
  });

  it("is kept alive by its holder for longer than a silent one may live", async () => {
    const order: string[] = [];
    // A busy machine may delay a heartbeat by half a second.
    const patient = { ...timing, stalePolls: 120 };
    let begin = () => {};
    const begun = new Promise<void>((resolve) => {
      begin = resolve;
    });
    const hold = withLock(
      path,
      () => {},
      async () => {
        begin();
        await new Promise((resolve) => setTimeout(resolve, 2000));
        order.push("holder");
      },
      undefined,
      patient,
    );
    await begun; // Else either may be the first.
    const wait = withLock(
      path,
      () => {},
      async () => void order.push("waiter"),
      undefined,
      patient,
    );
    await Promise.all([hold, wait]);
    expect(order).toEqual(["holder", "waiter"]);
  });

  it("is not waited for after an abort", async () => {
    await writeFile(path, "other-machine/pid:[1] 1 0000");
    const signal = AbortSignal.timeout(50);
    await expect(
      withLock(
        path,
        () => {},
        () => Promise.resolve(),
        signal,
        timing,
      ),
    ).rejects.toThrow("timeout");
    expect(await readFile(path, "utf8")).toContain("other-machine");
  });
});
