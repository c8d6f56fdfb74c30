import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { makeFolder } from "../../weights/make-folder.ts";
import { fileError } from "../../weights/regular-file.ts";
import { isEnd } from "../results.ts";
import { type ExecutorOptions, RetryCount, type SweepTask, type UnfinishedRun } from "./executor.ts";
import type { Place } from "./gpu-pinning.ts";
import { logEnd } from "./task-log.ts";

export interface LocalOptions extends ExecutorOptions {
  /** Where the processes train, one at a time in each: `placesFor` or `sharedPlaces`. */
  readonly places: readonly Place[];
}

/** A place that has lost this many tasks one after the other is left out: its GPU may be the reason. */
const MAX_LOSSES_OF_PLACE = 2;

interface Worker {
  readonly place: Place;
  losses: number;
}

interface LocalSweep {
  readonly options: LocalOptions;
  readonly folder: string;
  readonly retries: RetryCount;
  readonly children: Set<ChildProcess>;
  readonly unfinished: UnfinishedRun[];
  readonly waiting: SweepTask[];
  /** Workers without a task. */
  readonly idle: Worker[];
}

/**
 * Trains the runs as processes of this machine, one in each place. A process that ends before its run is at its end is begun
 * again behind the others. Aborted, it tells the processes to save and end, and waits for that.
 *
 * @returns the runs that were given up
 * @throws the signal's reason
 */
export async function runLocally(options: LocalOptions): Promise<readonly UnfinishedRun[]> {
  const sweep: LocalSweep = {
    options,
    folder: join(options.sweepFolder, "local"),
    retries: new RetryCount(options.retries, options.stepsOf),
    children: new Set(),
    unfinished: [],
    waiting: [...options.tasks],
    idle: options.places.map((place) => ({ place, losses: 0 })),
  };
  await makeFolder(sweep.folder);
  const end = () => endAll(sweep.children);
  // Whatever ends this process: what it began must not go on unseen.
  process.on("exit", end);
  const abort = () => {
    end();
    // Told a second time, a training process ends at once, and then this one does.
    process.on("SIGINT", end).on("SIGTERM", end);
  };
  options.signal.addEventListener("abort", abort, { once: true });
  try {
    await schedule(sweep);
  } finally {
    options.signal.removeEventListener("abort", abort);
    process.off("exit", end).off("SIGINT", end).off("SIGTERM", end);
  }
  options.signal.throwIfAborted();
  return sweep.unfinished;
}

function endAll(children: ReadonlySet<ChildProcess>): void {
  for (const child of children) child.kill("SIGTERM");
}

async function schedule(sweep: LocalSweep): Promise<void> {
  const { options, waiting, idle } = sweep;
  const { length: count } = options.tasks;
  const running = new Set<Promise<void>>();
  try {
    do {
      while (waiting.length > 0 && idle.length > 0 && !options.signal.aborted) {
        const work = train(sweep, idle.shift()!, waiting.shift()!).finally(() => running.delete(work));
        running.add(work);
      }
      const ended = count - waiting.length - running.size;
      options.terminal.status(`${count} runs: ${ended} ended, ${running.size} running, ${waiting.length} waiting`);
      if (running.size > 0) await Promise.race(running);
    } while (running.size > 0 || (waiting.length > 0 && !options.signal.aborted));
  } catch (error) {
    endAll(sweep.children);
    await Promise.allSettled(running);
    throw error;
  }
}

/** Trains a run until its process ends, and then puts worker and run where they belong. */
async function train(sweep: LocalSweep, worker: Worker, task: SweepTask): Promise<void> {
  const { options, idle } = sweep;
  const logFile = join(sweep.folder, `${task.name}.log`);
  options.terminal.line(`${task.name}: begins on ${worker.place.name}`);
  await options.onChange();
  const exit = await runProcess(sweep, worker.place, task, logFile);
  const status = await options.statusOf(task);
  if (isEnd(status)) {
    worker.losses = 0;
    const log = status === "failed" ? await logEnd(logFile) : "";
    options.terminal.line(`${task.name}: ${status}${log}`);
  } else if (options.signal.aborted) {
    options.terminal.line(`${task.name}: ${exit.what}`);
  } else {
    worker.losses++;
    await lose(sweep, task, exit, logFile);
  }
  const others = options.places.length > 1 && (idle.length > 0 || sweep.children.size > 0);
  if (worker.losses >= MAX_LOSSES_OF_PLACE && others) {
    options.terminal.line(
      `${worker.place.name} is left out: ${worker.losses} processes one after the other broke off on it`,
    );
  } else {
    idle.push(worker);
  }
  await options.onChange();
}

interface Exit {
  readonly code: number | null;
  /** For a sentence: `its process ended with exit code 3`. */
  readonly what: string;
}

/** Exit codes after which the same would come again: bad input, and a non-finite value. */
const LASTING_EXIT_CODES = new Set([2, 4]);

async function lose(sweep: LocalSweep, task: SweepTask, { code, what }: Exit, logFile: string): Promise<void> {
  const { options, retries, unfinished, waiting } = sweep;
  const isLasting = code !== null && LASTING_EXIT_CODES.has(code);
  const { times, mayRetry } = await retries.count(task);
  if (mayRetry && !isLasting) {
    waiting.push(task);
    options.terminal.line(`${task.name}: ${what}; beginning it again later (${times} of ${options.retries})`);
    return;
  }
  const often = times === 1 ? "" : `, ${times} times without getting further`;
  const reason = `${what} before the run's end${often}${await logEnd(logFile)}`;
  unfinished.push({ task, reason });
  options.terminal.line(`${task.name}: given up: ${reason}`);
}

async function runProcess(
  { options, children }: LocalSweep,
  place: Place,
  task: SweepTask,
  logFile: string,
): Promise<Exit> {
  const log = await openLog(logFile);
  try {
    const [program, ...args] = place.wrap(options.taskCommand(task.index));
    const child = spawn(program!, args, {
      env: { ...process.env, ...place.environment },
      stdio: ["ignore", log.fd, log.fd],
      // In a process group of its own: a terminal's Ctrl-C would reach it beside our signal, and a second one ends it at once.
      detached: true,
    });
    children.add(child);
    try {
      // Aborted while the log was opened.
      if (options.signal.aborted) child.kill("SIGTERM");
      const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
      return {
        code,
        what: signal === null ? `its process ended with exit code ${code}` : `its process was ended by ${signal}`,
      };
    } catch (error) {
      return { code: null, what: `its process could not be begun (${(error as Error).message})` };
    } finally {
      children.delete(child);
    }
  } finally {
    await log.close();
  }
}

async function openLog(logFile: string): Promise<FileHandle> {
  try {
    return await open(logFile, "a");
  } catch (cause) {
    throw fileError(logFile, "write", cause);
  }
}
