/** A lock between processes, and between machines that share a folder, made of one file. */
import { randomUUID } from "node:crypto";
import { link, mkdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { z } from "zod";
import { pause } from "./pause.ts";
import { lifeOf, thisProcess } from "./process-identity.ts";

export interface LockTiming {
  /** How often the holder renews the file's time. */
  heartbeatMs: number;
  pollMs: number;
  /** A lock that is found unchanged so often was left by a holder that is gone. Counted, as a clock runs on in sleep. */
  stalePolls: number;
}

export const DEFAULT_TIMING: LockTiming = { heartbeatMs: 10_000, pollMs: 250, stalePolls: 240 };

const holderSchema = z.object({
  host: z.string(),
  bootId: z.string(),
  pidNamespace: z.string(),
  pid: z.int().positive(),
  startTicks: z.string().nullable(),
  since: z.string(),
  id: z.string(),
});

/** Who holds a lock, and since when by its own clock (ISO 8601): what the file says. */
export type LockHolder = Readonly<z.infer<typeof holderSchema>>;

/** What is found at each look at a lock that another process holds. */
export interface LockWait {
  /** Null where the file does not say. */
  readonly holder: LockHolder | null;
  /** Alive or beating: then waiting is for its end. Neither: it may be on another machine, and may be gone. */
  readonly isAlive: boolean;
  readonly hasBeaten: boolean;
  /** Looks so far, `pollMs` apart. */
  readonly polls: number;
}

export interface LockOptions {
  /** Called at each look, may throw to give up. */
  readonly onWait: (wait: LockWait) => void;
  /** Called when a lock that was held is another's: this process was stopped for so long that it was taken for gone. */
  readonly onLost?: () => void;
  readonly signal?: AbortSignal | undefined;
  readonly timing?: LockTiming;
}

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
  timing?: LockTiming,
): Promise<T> {
  const onFirst = ({ polls }: LockWait) => {
    if (polls === 0) onWait();
  };
  const release = await takeLock(path, { onWait: onFirst, signal, ...(timing && { timing }) });
  try {
    return await work();
  } finally {
    await release();
  }
}

/**
 * Takes the lock at `path`, at once from a process of this machine that is gone, and from one of another machine when it
 * has given no sign of life for long.
 *
 * @returns what lets it go
 * @throws what `onWait` throws, and the signal's reason when aborted while waiting
 */
export async function takeLock(
  path: string,
  { onWait, onLost, signal, timing = DEFAULT_TIMING }: LockOptions,
): Promise<() => Promise<void>> {
  const holder: LockHolder = { ...(await thisProcess()), since: new Date().toISOString(), id: randomUUID() };
  const text = `${JSON.stringify(holder)}\n`;
  await acquire(path, text, onWait, signal, timing);
  const beat = async () => {
    const found = await read(path);
    if (found?.text === text) return utimes(path, new Date(), new Date());
    clearInterval(heartbeat);
    onLost?.();
  };
  // A file system that does not answer for a while says nothing of who holds the lock.
  const heartbeat = setInterval(() => void beat().catch(() => {}), timing.heartbeatMs);
  heartbeat.unref();
  return async () => {
    clearInterval(heartbeat);
    if ((await read(path))?.text === text) await rm(path, { force: true });
  };
}

async function acquire(
  path: string,
  text: string,
  onWait: LockOptions["onWait"],
  signal: AbortSignal | undefined,
  timing: LockTiming,
): Promise<void> {
  let seen: LockFile | undefined;
  let unchangedPolls = 0;
  let polls = 0;
  while (true) {
    const found = await read(path);
    if (found === undefined) {
      if (await create(path, text)) return;
      continue;
    }
    // The file's time is compared with itself, never with our clock: machines' clocks differ.
    const isSame = found.text === seen?.text;
    const hasBeaten = isSame && found.modifiedMs !== seen?.modifiedMs;
    unchangedPolls = isSame && !hasBeaten ? unchangedPolls + 1 : 0;
    const holder = parseHolder(found.text);
    const life = holder ? await lifeOf(holder) : "unknown";
    if (life === "gone" || (life === "unknown" && unchangedPolls >= timing.stalePolls)) {
      await takeAway(path, found.text);
      continue;
    }
    onWait({ holder, isAlive: life === "alive", hasBeaten, polls });
    polls++;
    seen = found;
    await pause(timing.pollMs, signal);
  }
}

interface LockFile {
  text: string;
  modifiedMs: number;
}

function parseHolder(text: string): LockHolder | null {
  try {
    return holderSchema.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}

/** Makes the file with all of its text, or finds that there is one. */
async function create(path: string, text: string): Promise<boolean> {
  await mkdir(dirname(path), { recursive: true });
  const whole = besideName(path);
  try {
    await writeFile(whole, text, { flag: "wx" });
    await link(whole, path);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return false;
    if (code === "ENOENT") return create(path, text); // Another process has just removed the folder that it had made.
    if (NO_LINKS.includes(code ?? "")) return createInPlace(path, text);
    throw error;
  } finally {
    await rm(whole, { force: true });
  }
}

/** Of file systems that know no second name of a file: FAT, and some that lie on the network. */
const NO_LINKS = ["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"];

async function createInPlace(path: string, text: string): Promise<boolean> {
  try {
    await writeFile(path, text, { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** What a killed process may leave has a name by which temporary files are known, behind the lock's own. */
function besideName(path: string): string {
  return `${path}.${randomUUID()}.partial`;
}

async function read(path: string): Promise<LockFile | undefined> {
  try {
    return { text: await readFile(path, "utf8"), modifiedMs: (await stat(path)).mtimeMs };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Removes a dead holder's lock. Another process may have done so and locked already: then that lock is put back. */
async function takeAway(path: string, deadText: string): Promise<void> {
  const aside = besideName(path);
  try {
    await rename(path, aside);
    if ((await readFile(aside, "utf8")) !== deadText) await link(aside, path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== "ENOENT" && code !== "EEXIST") throw error;
  } finally {
    await rm(aside, { force: true });
  }
}
