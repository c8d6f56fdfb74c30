import { ExpectedError, OutOfMemoryError } from "../errors.ts";
import { printable } from "../text.ts";
import { listCheckpoints } from "./checkpoint/folders.ts";
import type { ChosenBatch } from "./choose-batch.ts";
import { withAdvice } from "./out-of-memory.ts";
import type { RunFolder } from "./run-folder.ts";

export interface EndedRun {
  readonly output: RunFolder;
  /** Done before it ended. */
  readonly steps: number;
  readonly length: { readonly totalSteps: number };
  readonly chosen: ChosenBatch;
  readonly signal: AbortSignal;
  /** How the run is continued, as in "the same command with --resume". */
  readonly toContinue: string;
}

/** The error that a run ends with, saying also what it leaves and how it can go on. */
export async function endingOf(
  error: unknown,
  { output, steps, length, chosen, signal, toContinue }: EndedRun,
): Promise<unknown> {
  const done = `after step ${steps} of ${length.totalSteps}`;
  if (error === signal.reason) {
    return new ExpectedError(`interrupted ${done}; ${await whatIsLeft(output, toContinue)}`, signal.reason.exitCode);
  }
  if (error instanceof OutOfMemoryError) {
    return withAdvice(error, chosen, `it ended ${done}; ${await whatIsLeft(output, toContinue)}`);
  }
  return withLastCheckpoint(error, output, toContinue);
}

/** What a run leaves that has ended early, and what can be done with it. */
async function whatIsLeft(output: RunFolder, toContinue: string): Promise<string> {
  const names = await output.list();
  const [last] = await listCheckpoints(output.checkpoints);
  const use = last
    ? `${toContinue} continues after step ${last.step}`
    : `no step was saved, and ${toContinue} begins anew`;
  return `${printable(output.path, 1000)} holds ${names.join(", ")}: ${use}`;
}

/** Says with an error that the run had to stop for where it can go on. */
async function withLastCheckpoint(error: unknown, output: RunFolder, toContinue: string): Promise<unknown> {
  if (!(error instanceof ExpectedError)) return error;
  const [last] = await listCheckpoints(output.checkpoints).catch(() => []);
  if (!last) return error;
  const text = `${error.message}; the last checkpoint is ${printable(last.path, 1000)}, from which ${toContinue} continues`;
  return new ExpectedError(text, error.exitCode, { cause: error });
}
