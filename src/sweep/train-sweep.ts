import type { Sweep } from "../config/sweep.ts";
import { ExpectedError, NON_FINITE_EXIT_CODE, RunTooLargeError } from "../errors.ts";
import type { Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { withRun } from "../train/begin-run.ts";
import { withFolderLock } from "../train/folder-lock.ts";
import type { Inputs } from "../train/inputs.ts";
import { formatDuration } from "../train/progress.ts";
import { Session, type SessionRequest } from "../train/session.ts";
import { type TrainOptions, trainRun } from "../train/train-run.ts";
import type { OpenRun } from "./check-sweep.ts";
import { medianStop } from "./median-stopping.ts";
import { isEnd } from "./results.ts";
import { readRecords, readState } from "./run-files.ts";

export interface TrainSweepOptions {
  readonly session: SessionRequest;
  /** End runs that lag behind the others. */
  readonly stopWorse: boolean;
  /** Called with the folder of each run whose files are there, before its first step. */
  readonly onRunStart: (folder: string) => void;
  /** Called with the folder of each run whose files are as it leaves them, also where it failed. */
  readonly onRunEnd: (folder: string) => Promise<void>;
}

/** A run that ended with an error which does not keep the others from being trained. */
export interface FailedRun {
  readonly name: string;
  readonly error: ExpectedError;
}

/**
 * Trains runs of a sweep one after the other on one device. The base is loaded once, and what is computed with it alone is
 * computed once. A run that fails for its own settings is left, and the rest goes on.
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
  let session: Session | null = null;
  const startMs = performance.now();
  try {
    for (const [done, { run, index }] of runs.entries()) {
      session ??= await Session.open(options.session, terminal);
      const leftMs = ((performance.now() - startMs) / done) * (runs.length - done);
      const left = done > 0 ? `, about ${formatDuration(leftMs)} left` : "";
      terminal.line(`\nrun ${index + 1} of ${sweep.runs.length}${left}: ${printable(run.name)}`);
      try {
        await trainOne(session, sweep, { run, index }, inputs, options, terminal, signal);
      } catch (error) {
        if (error === signal.reason || !isOwnFault(error)) throw namingRun(run.name, error);
        terminal.line(`${printable(run.name)}: ${error.message}`);
        failed.push({ name: run.name, error });
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

/** One run of a sweep, on a device that is open. @throws ExpectedError as `trainRun` */
async function trainOne(
  session: Session,
  sweep: Sweep,
  { run }: OpenRun,
  inputs: Inputs,
  { stopWorse, onRunStart, onRunEnd }: Omit<TrainSweepOptions, "session">,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const options: TrainOptions = {
    toContinue: "the same command",
    onStart: onRunStart,
    onEnd: onRunEnd,
    ...(stopWorse && { shouldStop: () => lagsBehind(sweep, run.config.output_dir) }),
  };
  await withFolderLock(run.config.output_dir, terminal, signal, async (signal) => {
    // Another process may have had it meanwhile.
    const { status } = await readState(run.config.output_dir);
    if (isEnd(status)) return terminal.line(`it is ${status} already`);
    const resume = status === "pending" ? undefined : true;
    await withRun(run.config, resume, inputs, terminal, signal, async (begun) => {
      if (begun.resumed) terminal.line(`continuing after step ${begun.resumed.state.loop.step}`);
      await trainRun(session, begun, options, terminal, signal);
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
