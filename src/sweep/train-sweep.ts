import type { Sweep } from "../config/sweep.ts";
import { ExpectedError, NON_FINITE_EXIT_CODE, RunTooLargeError } from "../errors.ts";
import type { Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { withRun } from "../train/begin-run.ts";
import { withFolderLock } from "../train/folder-lock.ts";
import type { Inputs } from "../train/inputs.ts";
import type { Stop } from "../train/loop.ts";
import { formatDuration } from "../train/progress.ts";
import { Session, type SessionRequest } from "../train/session.ts";
import { type TrainOptions, trainRun } from "../train/train-run.ts";
import type { OpenRun } from "./check-sweep.ts";
import { MIN_OTHERS, medianStop } from "./median-stopping.ts";
import { isEnd } from "./results.ts";
import { markStopped, readRecords, readState } from "./run-files.ts";

export interface TrainSweepOptions {
  readonly session: SessionRequest;
  /**
   * End runs that lag behind the others. Runs of one process take turns, an evaluation each, so that each is compared with
   * all others before it goes on.
   */
  readonly stopWorse: boolean;
  /**
   * Called with the folder of each run whose files are there, before its first step, before each of its turns, and before
   * it is ended while it waits.
   */
  readonly onRunStart: (folder: string) => void;
  /** Called with the folder of each run that waits for its next turn. */
  readonly onRunPause: (folder: string) => Promise<void>;
  /** Called with the folder of each run whose files are as it leaves them, also where it failed. */
  readonly onRunEnd: (folder: string) => Promise<void>;
}

/** A run that ended with an error which does not keep the others from being trained. */
export interface FailedRun {
  readonly name: string;
  readonly error: ExpectedError;
}

/**
 * Trains runs of a sweep on one device. The base is loaded once, and what is computed with it alone is computed once. A run
 * that fails for its own settings is left, and the rest goes on.
 *
 * @throws ExpectedError where no other run could go on either: the device is lost, the disk full, the signal aborted
 */
export async function trainSweep(
  sweep: Sweep,
  runs: readonly OpenRun[],
  inputs: Inputs,
  options: TrainSweepOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<FailedRun[]> {
  const failed: FailedRun[] = [];
  const open = new Set(runs);
  const takeTurns = options.stopWorse && runs.length > 1 && sweep.runs.length > MIN_OTHERS;
  let session: Session | null = null;
  const startMs = performance.now();
  try {
    while (open.size > 0) {
      const next = takeTurns ? await leastAdvanced(open) : [...open][0]!;
      const { name, config } = next.run;
      const reason = takeTurns ? await stopWhereItLags(sweep, config.output_dir, terminal, signal) : null;
      if (reason !== null) {
        terminal.line(`${printable(name)} is stopped: ${reason}`);
        options.onRunStart(config.output_dir);
        await options.onRunEnd(config.output_dir);
        open.delete(next);
        continue;
      }
      session ??= await Session.open(options.session, terminal);
      const done = runs.length - open.size;
      const leftMs = ((performance.now() - startMs) / done) * open.size;
      const left = done > 0 && !takeTurns ? `, about ${formatDuration(leftMs)} left` : "";
      terminal.line(`\nrun ${next.index + 1} of ${sweep.runs.length}${left}: ${printable(name)}`);
      try {
        const turn = { stopWorse: options.stopWorse, isLast: !takeTurns || open.size === 1 };
        const stop = await trainOne(session, sweep, next, inputs, turn, options, terminal, signal);
        if (stop?.status !== "paused") open.delete(next);
      } catch (error) {
        if (error === signal.reason || !isOwnFault(error)) throw namingRun(name, error);
        terminal.line(`${printable(name)}: ${error.message}`);
        failed.push({ name, error });
        open.delete(next);
        // A device that refused memory may be of no use any more.
        if (error instanceof RunTooLargeError) {
          session.close();
          session = null;
        }
      }
    }
    return failed;
  } finally {
    session?.close();
  }
}

/** The run that has come least far, the first of several: whichever is taken, the others have come as far as it. */
async function leastAdvanced(runs: ReadonlySet<OpenRun>): Promise<OpenRun> {
  let least: { run: OpenRun; epoch: number } | null = null;
  for (const run of runs) {
    const { evaluation } = await readRecords(run.run.config.output_dir);
    const epoch = evaluation.at(-1)?.epoch ?? 0;
    if (!least || epoch < least.epoch) least = { run, epoch };
  }
  return least!.run;
}

/**
 * Ends a run that waits for its turn and lags behind. One that was cut short in its turn has that turn first: it may have
 * recorded what its checkpoint lacks.
 * @returns why it is ended; null where it goes on
 */
async function stopWhereItLags(
  sweep: Sweep,
  folder: string,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<string | null> {
  const isPaused = async () => (await readState(folder)).status === "paused";
  const reason = (await isPaused()) ? await lagsBehind(sweep, folder) : null;
  if (reason === null) return null;
  return withFolderLock(folder, terminal, signal, async () => {
    if (!(await isPaused())) return null; // Another process has had it meanwhile.
    await markStopped(folder, reason);
    return reason;
  });
}

interface Turn {
  readonly stopWorse: boolean;
  /** No other run waits for its turn: this one goes on to its end. */
  readonly isLast: boolean;
}

/**
 * One run of a sweep, or one turn of it, on a device that is open.
 * @returns how it was stopped; null where it is at its end
 * @throws ExpectedError as `trainRun`
 */
async function trainOne(
  session: Session,
  sweep: Sweep,
  { run }: OpenRun,
  inputs: Inputs,
  { stopWorse, isLast }: Turn,
  { onRunStart, onRunPause, onRunEnd }: Pick<TrainSweepOptions, "onRunStart" | "onRunPause" | "onRunEnd">,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<Stop | null> {
  const folder = run.config.output_dir;
  const judge = async (): Promise<Stop | null> => {
    if (!isLast) return { status: "paused" };
    const reason = await lagsBehind(sweep, folder);
    return reason === null ? null : { status: "stopped", reason };
  };
  const options: TrainOptions = {
    toContinue: "the same command",
    onStart: onRunStart,
    onEnd: async () => {
      const { status } = await readState(folder);
      await (status === "paused" ? onRunPause : onRunEnd)(folder);
    },
    ...(stopWorse && { shouldStop: judge }),
  };
  return withFolderLock(folder, terminal, signal, async (signal) => {
    // Another process may have had it meanwhile.
    const { status } = await readState(folder);
    if (isEnd(status)) {
      terminal.line(`it is ${status} already`);
      return null;
    }
    const resume = status === "pending" ? undefined : true;
    return withRun(run.config, resume, inputs, terminal, signal, async (begun) => {
      if (begun.resumed) terminal.line(`continuing after step ${begun.resumed.state.loop.step}`);
      return trainRun(session, begun, options, terminal, signal);
    });
  });
}

/** Asks the other runs' records, wherever those runs are trained. */
async function lagsBehind(sweep: Sweep, folder: string): Promise<string | null> {
  const own = await readRecords(folder);
  const others = sweep.runs.filter(({ config }) => config.output_dir !== folder);
  const records = await Promise.all(
    others.map(async ({ config }) => (await readRecords(config.output_dir)).evaluation),
  );
  return medianStop(own.evaluation, records, sweep.metric);
}

/** Whether an error comes of a run's own settings, so that another run may well be trained. */
function isOwnFault(error: unknown): error is ExpectedError {
  const isNonFinite = error instanceof ExpectedError && error.exitCode === NON_FINITE_EXIT_CODE;
  return isNonFinite || error instanceof RunTooLargeError;
}

function namingRun(name: string, error: unknown): unknown {
  if (!(error instanceof ExpectedError)) return error;
  return new ExpectedError(`${printable(name)}: ${error.message}`, error.exitCode, { cause: error });
}
