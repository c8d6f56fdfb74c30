import { rmdir, stat } from "node:fs/promises";
import path from "node:path";
import { InputError } from "../errors.ts";
import { DEFAULT_TIMING, type LockHolder, type LockTiming, type LockWait, takeLock } from "../hub/lock.ts";
import type { Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { makeFolder } from "../weights/make-folder.ts";
import { fileError } from "../weights/regular-file.ts";
import { LOCK_FILE, requireWritableFolder } from "./run-folder.ts";

/** A process that was just killed may take a moment to go. */
const PATIENCE_MS = 2000;

/**
 * Runs `work` while no other process may write into an output folder. The folder is made for that, and what was made is
 * removed again where `work` leaves nothing in it.
 *
 * A process of this machine that is gone loses the folder at once. Of one that is elsewhere a sign of life is waited for.
 *
 * @param work given a signal that is aborted like `signal`, and when the folder was lost to another process after all
 * @throws InputError where another process has the folder, or it cannot be written
 */
export async function withFolderLock<T>(
  folder: string,
  terminal: Terminal,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
  timing: LockTiming = DEFAULT_TIMING,
): Promise<T> {
  await requireWritableFolder(folder);
  const outermost = await firstMissing(folder);
  const file = path.join(folder, LOCK_FILE);
  const lost = new AbortController();
  const onLost = () => {
    const text = `output_dir ${printable(folder)} was taken over by another process while this one was stopped`;
    terminal.line(`${text}: ending after the work at hand`);
    lost.abort(new InputError(text));
  };
  try {
    await makeFolder(path.resolve(folder));
    const onWait = (wait: LockWait) => waitFor(wait, folder, file, timing, terminal);
    const release = await inFileSystem(file, () => takeLock(file, { onWait, onLost, signal, timing }));
    try {
      return await work(AbortSignal.any([signal, lost.signal]));
    } finally {
      await inFileSystem(file, release);
    }
  } finally {
    if (outermost !== null) await removeEmpty(folder, outermost);
  }
}

function waitFor(
  { holder, isAlive, hasBeaten, polls }: LockWait,
  folder: string,
  file: string,
  timing: LockTiming,
  terminal: Terminal,
): void {
  const who = `output_dir ${printable(folder)} is in use by another dpo-train (${describe(holder)})`;
  if (hasBeaten || (isAlive && polls * timing.pollMs >= PATIENCE_MS)) {
    throw new InputError(`${who}: wait for its end, stop it, or choose another with --set output_dir=FOLDER`);
  }
  if (isAlive || polls > 0) return;
  const seconds = Math.round((timing.stalePolls * timing.pollMs) / 1000);
  terminal.line(
    `${who}: waiting up to ${seconds} s for a sign of life of it; where it is gone for certain, remove ${printable(file, 1000)} to go on at once`,
  );
}

function describe(holder: LockHolder | null): string {
  return holder
    ? `process ${holder.pid} on ${printable(holder.host)}, since ${printable(holder.since)}`
    : `its lock does not say which process it is`;
}

/** The outermost folder that has to be made; null where all are there. */
async function firstMissing(folder: string): Promise<string | null> {
  let missing: string | null = null;
  for (let at = path.resolve(folder); ; at = path.dirname(at)) {
    const isThere = await stat(at).then(
      () => true,
      () => false,
    );
    if (isThere || at === path.dirname(at)) return missing;
    missing = at;
  }
}

/** Removes a folder and those around it that were made for it, as far as they are empty. */
async function removeEmpty(folder: string, outermost: string): Promise<void> {
  try {
    for (let at = path.resolve(folder); at.length >= outermost.length; at = path.dirname(at)) await rmdir(at);
  } catch {
    // Something is in it, or somebody else has removed it: both are as well.
  }
}

/** Failures of the file system as InputErrors. */
async function inFileSystem<T>(file: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const isOfFiles = error instanceof Error && "syscall" in error;
    throw isOfFiles ? fileError(file, "write", error) : error;
  }
}
