import path from "node:path";
import type { PushedPart } from "../config/names.ts";
import { InputError } from "../errors.ts";
import { looksLikeHubId } from "../hub/resolve.ts";
import { type RunFiles, readRunFiles } from "../report/run-files.ts";
import { statusOf } from "../report/run-summary.ts";
import { printable } from "../text.ts";
import { numberAt, textAt } from "../train/json-tree.ts";

/** What can be pushed: a run that has come to its end. */
export interface FinishedRun extends RunFiles {
  /** Its base as `owner/name` or `owner/name@revision`; null where that is a folder of this machine. */
  readonly hubBase: string | null;
}

/** @throws InputError where the folder holds no run, or one that has not come to its end */
export async function readFinishedRun(folder: string): Promise<FinishedRun> {
  const files = await readRunFiles(folder);
  requireFinished(files);
  const reference = textAt(files.run, "model", "reference");
  // A relative path may look like an id: a model of the Hub is known by its commit.
  const isOfHub = textAt(files.run, "model", "commit") !== null && reference !== null && looksLikeHubId(reference);
  return { ...files, hubBase: isOfHub ? reference : null };
}

function requireFinished(files: RunFiles): void {
  const status = statusOf(files);
  if (status === "done") return;
  const { folder, run, train } = files;
  const shown = printable(folder, 1000);
  const step = numberAt(run, "steps_done") ?? train.at(-1)?.step ?? 0;
  const why = textAt(run, "reason") ?? textAt(run, "error");
  const reason = why === null ? "" : ` (${printable(why)})`;
  const only = "only a run that came to its end is pushed";
  switch (status) {
    case "running":
      throw new InputError(
        `${shown} holds a run that goes on, or was killed, at step ${step}: wait for its end, or continue it with the command that began it and --resume; ${only}`,
      );
    case "stopped":
      throw new InputError(`${shown} holds a run that was stopped after step ${step}${reason}: ${only}`);
    case "failed":
      throw new InputError(`${shown} holds a run that failed after step ${step}${reason}: ${only}`);
    default:
      throw new InputError(
        `${shown} holds a run that was interrupted after step ${step}: continue it with the command that began it and --resume; ${only}`,
      );
  }
}

/** The folder of a run that holds what is to be pushed. */
export function partFolder(folder: string, what: PushedPart): string {
  return path.join(folder, what);
}
