import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { InputError } from "../../src/errors.ts";
import type { LockTiming } from "../../src/hub/lock.ts";
import { thisProcess } from "../../src/hub/process-identity.ts";
import { withFolderLock } from "../../src/train/folder-lock.ts";
import { LOCK_FILE, requireFreshFolder } from "../../src/train/run-folder.ts";
import { temporaryFolder } from "../weights/fixtures.ts";

const TIMING: LockTiming = { heartbeatMs: 50, pollMs: 10, stalePolls: 60 };
const NEVER = new AbortController().signal;

let folder: string;
let file: string;
let lines: string[];

beforeEach(async () => {
  folder = join(await temporaryFolder(), "runs", "first");
  file = join(folder, LOCK_FILE);
  lines = [];
});

function lock<T>(work: (signal: AbortSignal) => Promise<T>, signal = NEVER): Promise<T> {
  const terminal = { line: (text: string) => void lines.push(text), status: () => {}, progress: () => {} };
  return withFolderLock(folder, terminal, signal, work, TIMING);
}

/** A lock as this process would have left it, but for what is given. */
async function leave(other: object): Promise<void> {
  await mkdir(folder, { recursive: true });
  const holder = { ...(await thisProcess()), since: "2026-01-02T03:04:05.678Z", id: "0000", ...other };
  await writeFile(file, JSON.stringify(holder));
}

describe("an output folder's lock", () => {
  it("makes the folder and takes away what is empty afterwards", async () => {
    await lock(async () => {
      expect(await readdir(folder)).toEqual([LOCK_FILE]);
      expect(JSON.parse(await readFile(file, "utf8"))).toMatchObject({ pid: process.pid });
      await expect(requireFreshFolder(folder)).resolves.toBeUndefined();
    });
    expect(existsSync(join(folder, ".."))).toBe(false);
    await expect(lock(() => Promise.reject(new Error("broken")))).rejects.toThrow("broken");
    expect(existsSync(join(folder, ".."))).toBe(false);
  });

  it("leaves the folder where there is something in it, and where it was there before", async () => {
    await lock(() => writeFile(join(folder, "a"), "b"));
    expect(await readdir(folder)).toEqual(["a"]);
    folder = await temporaryFolder();
    await lock(async () => {});
    expect(await readdir(folder)).toEqual([]);
  });

  it("is refused to a second one while the first lives, with one sentence that says who has it", async () => {
    await lock(async () => {
      await expect(lock(async () => {})).rejects.toThrow(InputError);
      await expect(lock(async () => {})).rejects.toThrow(
        new RegExp(
          `^output_dir ${folder} is in use by another dpo-train \\(process ${process.pid} on .+, since \\d{4}-.+Z\\): wait for its end, stop it, or choose another with --set output_dir=FOLDER$`,
        ),
      );
    });
    await lock(async () => {});
    expect(lines).toEqual([]);
  });

  it.each([
    ["a number that is free", { pid: 2 ** 22 + 1 }],
    ["a number that another process has now", { startTicks: "1" }],
  ])("of a process of this machine that is gone, with %s, is taken over at once", async (_, gone) => {
    await leave(gone);
    await expect(requireFreshFolder(folder)).resolves.toBeUndefined();
    const startMs = performance.now();
    await lock(async () => {});
    expect(performance.now() - startMs).toBeLessThan(TIMING.stalePolls * TIMING.pollMs);
    expect(lines).toEqual([]);
    expect(await readdir(folder)).toEqual([]);
  });

  it("of a process that has ended, and whose parent has not asked how, is taken over at once", async () => {
    const parent = spawn("sh", ["-c", "sleep 0 & echo $!; exec sleep 60"]);
    onTestFinished(() => void parent.kill("SIGKILL"));
    const pid = Number(await new Promise((resolve) => parent.stdout.once("data", resolve)));
    const stat = () => readFile(`/proc/${pid}/stat`, "utf8");
    await expect.poll(stat).toContain(") Z ");
    await leave({ pid, startTicks: (await stat()).replace(/.*\) /, "").split(" ")[19] });
    await lock(async () => {});
    expect(lines).toEqual([]);
  });

  it.each([
    ["another machine", { host: "other", bootId: "0" }],
    ["another container", { pidNamespace: "pid:[1]" }],
  ])("of %s is taken over only when it has been silent for long, and says how not to wait", async (_, other) => {
    await leave(other);
    const startMs = performance.now();
    await lock(async () => {});
    expect(performance.now() - startMs).toBeGreaterThan(TIMING.stalePolls * TIMING.pollMs);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(
      /is in use by another dpo-train \(process \d+ on .+, since 2026-01-02T03:04:05\.678Z\): waiting up to 1 s for a sign of life of it; where it is gone for certain, remove .*\/first\/\.dpo-train\.lock to go on at once$/,
    );
  });

  it("of another machine that gives signs of life is left alone", async () => {
    await leave({ host: "other\u202e" });
    const beating = setInterval(() => void utimes(file, new Date(), new Date()), 100);
    onTestFinished(() => clearInterval(beating));
    await expect(lock(async () => {})).rejects.toThrow(
      /^output_dir .* in use by .* on other\\u202e, since .*: wait for/,
    );
    expect(existsSync(file)).toBe(true);
  });

  it("that says nothing is taken over only when it has been silent for long", async () => {
    await leave({});
    await writeFile(file, "");
    await lock(async () => {});
    expect(lines[0]).toMatch(/\(its lock does not say which process it is\): waiting up to/);
  });

  it("is waited for no longer than the command may run", async () => {
    await leave({ host: "other" });
    await expect(lock(async () => {}, AbortSignal.timeout(50))).rejects.toThrow("timeout");
    expect(existsSync(file)).toBe(true);
  });

  it("that another process has taken over ends the work, and stays with that process", async () => {
    const work = lock(async (signal) => {
      await leave({ host: "other" });
      await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    });
    await expect(work).rejects.toThrow(/^output_dir .* was taken over by another process while this one was stopped$/);
    expect(await readFile(file, "utf8")).toContain('"other"');
  });

  it("lets one of many that begin at once have it", async () => {
    const started = Array.from({ length: 5 }, () => lock(() => new Promise((resolve) => setTimeout(resolve, 3000))));
    const results = await Promise.allSettled(started);
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect(existsSync(folder)).toBe(false);
  });
});
