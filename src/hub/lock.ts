/** A lock between processes, and between machines that share a folder, made of one file. */
import { randomUUID } from "node:crypto";
import { link, mkdir, readFile, readlink, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { pause } from "./pause.ts";

export interface LockTiming {
  /** How often the holder renews the file's time. */
  heartbeatMs: number;
  pollMs: number;
  /** A lock that is found unchanged so often was left by a holder that is gone. Counted, as a clock runs on in sleep. */
  stalePolls: number;
}

const DEFAULT_TIMING: LockTiming = { heartbeatMs: 10_000, pollMs: 250, stalePolls: 240 };

/**
 * Runs `work` while holding the lock at `path`; waits while another process holds it, and takes it over from one that
 * is gone.
 *
 * @param onWait called once when there is someone to wait for.
 * @throws the signal's reason when aborted while waiting.
 */
export async function withLock<T>(
  path: string,
  onWait: () => void,
  work: () => Promise<T>,
  signal?: AbortSignal,
  timing = DEFAULT_TIMING,
): Promise<T> {
  await mkdir(dirname(path), { recursive: true });
  const holder = `${await machine()} ${process.pid} ${randomUUID()}`;
  await acquire(path, holder, onWait, signal, timing);
  const heartbeat = setInterval(() => {
    // A lock that has gone is found when it is released; there is nothing to renew.
    utimes(path, new Date(), new Date()).catch(() => {});
  }, timing.heartbeatMs);
  heartbeat.unref();
  try {
    return await work();
  } finally {
    clearInterval(heartbeat);
    if ((await read(path))?.holder === holder) await rm(path, { force: true });
  }
}

async function acquire(
  path: string,
  holder: string,
  onWait: () => void,
  signal: AbortSignal | undefined,
  timing: LockTiming,
): Promise<void> {
  let seen: LockFile | undefined;
  let unchangedPolls = 0;
  while (!(await create(path, holder))) {
    const found = await read(path);
    if (found === undefined) continue;
    // The file's time is compared with itself, never with our clock: machines' clocks differ.
    const isUnchanged = found.holder === seen?.holder && found.modifiedMs === seen.modifiedMs;
    unchangedPolls = isUnchanged ? unchangedPolls + 1 : 0;
    if (unchangedPolls >= timing.stalePolls || (await isGone(found.holder))) {
      await takeAway(path, found.holder);
      continue;
    }
    if (seen === undefined) onWait();
    seen = found;
    await pause(timing.pollMs, signal);
  }
}

interface LockFile {
  holder: string;
  modifiedMs: number;
}

async function create(path: string, holder: string): Promise<boolean> {
  try {
    await writeFile(path, holder, { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

async function read(path: string): Promise<LockFile | undefined> {
  try {
    return { holder: await readFile(path, "utf8"), modifiedMs: (await stat(path)).mtimeMs };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Removes a dead holder's lock. Another process may have done so and locked already: then that lock is put back. */
async function takeAway(path: string, deadHolder: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`;
  try {
    await rename(path, aside);
    if ((await readFile(aside, "utf8")) !== deadHolder) await link(aside, path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== "ENOENT" && code !== "EEXIST") throw error;
  } finally {
    await rm(aside, { force: true });
  }
}

/** Process ids mean something within one machine and, in containers that share its name, one process namespace. */
async function machine(): Promise<string> {
  const namespace = await readlink("/proc/self/ns/pid").catch(() => "");
  return `${hostname()}/${namespace}`;
}

async function isGone(holder: string): Promise<boolean> {
  const [where, pid] = holder.split(" ");
  if (where !== (await machine()) || !/^\d+$/.test(pid ?? "")) return false;
  try {
    process.kill(Number(pid), 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH";
  }
}
