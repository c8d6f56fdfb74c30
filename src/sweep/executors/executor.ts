import { setTimeout as delay } from "node:timers/promises";
import type { Terminal } from "../../terminal.ts";
import type { RunStatus } from "../results.ts";

/** A run of a sweep that is not at its end. */
export interface SweepTask {
  /** Its place in the whole sweep, from 0. */
  readonly index: number;
  readonly name: string;
  /** Its output folder, absolute. */
  readonly folder: string;
}

/**
 * The command line of the process that trains one run. The index may be what a shell, Slurm or Kubernetes puts a number in
 * place of; it then stands in the command as it is, as a word of its own.
 */
export type TaskCommand = (index: number | string) => readonly string[];

/** What every executor that follows its tasks needs. */
export interface ExecutorOptions {
  readonly tasks: readonly SweepTask[];
  readonly taskCommand: TaskCommand;
  /** Where a run stands, as its folder says. */
  readonly statusOf: (task: SweepTask) => Promise<RunStatus>;
  /** How many optimizer steps a run has behind it, as its folder says: whether a task that was lost had got any further. */
  readonly stepsOf: (task: SweepTask) => Promise<number>;
  /** The sweep's output folder, absolute. */
  readonly sweepFolder: string;
  readonly terminal: Terminal;
  /** Rejects what is under way with its reason. */
  readonly signal: AbortSignal;
  /** How often a task that was lost is begun again without having got further in between. */
  readonly retries: number;
  /** Called when the status of some run may have changed. */
  readonly onChange: () => void | Promise<void>;
}

/** A run that an executor has given up, and why: one sentence, then the last lines of its log. */
export interface UnfinishedRun {
  readonly task: SweepTask;
  readonly reason: string;
}

/** Waits. @throws the signal's reason as soon as it is aborted */
export async function pause(waitMs: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  try {
    await delay(waitMs, undefined, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}

/** Counts how often each task was begun again without having got further. Owns that count for one command. */
export class RetryCount {
  readonly #limit: number;
  readonly #stepsOf: ExecutorOptions["stepsOf"];
  readonly #lost = new Map<number, { steps: number; times: number }>();

  constructor(limit: number, stepsOf: ExecutorOptions["stepsOf"]) {
    this.#limit = limit;
    this.#stepsOf = stepsOf;
  }

  /** Counts a task that was lost. Returns how often it was lost at this step, and whether it may be begun again. */
  async count(task: SweepTask): Promise<{ times: number; mayRetry: boolean }> {
    const steps = await this.#stepsOf(task);
    const before = this.#lost.get(task.index);
    const times = before === undefined || steps > before.steps ? 1 : before.times + 1;
    this.#lost.set(task.index, { steps, times });
    return { times, mayRetry: times <= this.#limit };
  }
}
