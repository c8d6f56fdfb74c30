import type { Config } from "../config/schema.ts";
import type { Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { withRun } from "./begin-run.ts";
import type { ResumeChoice } from "./checkpoint/find-checkpoint.ts";
import { withFolderLock } from "./folder-lock.ts";
import { Inputs } from "./inputs.ts";
import { reportPreflight } from "./prepare-run.ts";
import { Session, type SessionRequest } from "./session.ts";
import { createStepProfiler } from "./step-profiler.ts";
import { trainRun } from "./train-run.ts";

export interface RunRequest extends SessionRequest {
  readonly config: Config;
  /** Time the GPU's work in a few steps. */
  readonly profileSteps?: boolean;
  /** The checkpoint to continue from, true for the newest that is whole; undefined to begin. */
  readonly resume?: ResumeChoice;
  /** Called when the run's files are there, before the first step. */
  readonly onStart?: (folder: string) => void;
  /** Called when the run's files are as it leaves them, also where it fails. */
  readonly onEnd?: (folder: string) => Promise<void>;
  /** Stop after the preflight: nothing is computed or written. */
  readonly dryRun: boolean;
}

/** Of a run that nobody stops. */
const NEVER = new AbortController().signal;

/**
 * A whole run: model and data in, output folder out. Whatever can be refused is refused before the device is opened, and
 * nothing but the output folder's lock is written before the reference is known.
 *
 * @param signal aborted with an ExpectedError: the step at hand is the last
 * @throws ExpectedError whose exit code says what kind of thing went wrong
 */
export async function run(request: RunRequest, terminal: Terminal, signal: AbortSignal = NEVER): Promise<void> {
  if (request.dryRun) return prepareAndTrain(request, terminal, signal);
  const folder = request.config.output_dir;
  await withFolderLock(folder, terminal, signal, (signal) => prepareAndTrain(request, terminal, signal));
}

async function prepareAndTrain(request: RunRequest, terminal: Terminal, signal: AbortSignal): Promise<void> {
  const { config, profileSteps = false, resume, onStart, onEnd, dryRun } = request;
  await withRun(config, resume, new Inputs(), terminal, signal, async (begun) => {
    const { prepared, resumed } = begun;
    reportPreflight(prepared, terminal);
    if (resumed?.isDone) return terminal.line(`--resume: ${printable(config.output_dir, 1000)} is done already`);
    if (resumed) {
      terminal.line(`continuing after step ${resumed.state.loop.step}: ${printable(resumed.path, 1000)}`);
    }
    if (dryRun) return;
    const session = await Session.open(request, terminal);
    try {
      const profiler = profileSteps ? createStepProfiler(session.opened, prepared.length.totalSteps) : null;
      await trainRun(session, begun, { profiler, onStart, onEnd }, terminal, signal);
    } finally {
      session.close();
    }
  });
}
