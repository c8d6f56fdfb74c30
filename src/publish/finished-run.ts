import path from "node:path";
import type { PushedPart } from "../config/names.ts";
import { InputError } from "../errors.ts";
import { looksLikeHubId } from "../hub/resolve.ts";
import { type RunFiles, readRunFiles } from "../report/run-files.ts";
import { statusOf } from "../report/run-summary.ts";
import { printable } from "../text.ts";
import { numberAt, textAt } from "../train/json-tree.ts";

/** A base that others find on the Hub. */
export interface HubBase {
  /** `owner/name` */
  readonly name: string;
  /** What was trained on, where it was chosen by a revision; null for the newest of the main branch. */
  readonly commit: string | null;
  /** As a config names it: `owner/name` or `owner/name@revision`. */
  readonly reference: string;
}

/** What can be pushed: a run that has come to its end. */
export interface FinishedRun extends RunFiles {
  /** Null where its base is a folder of this machine. */
  readonly hubBase: HubBase | null;
}

/** @throws InputError where the folder holds no run, or one that has not come to its end */
export async function readFinishedRun(folder: string): Promise<FinishedRun> {
  const files = await readRunFiles(folder);
  requireFinished(files);
  return { ...files, hubBase: hubBaseOf(files) };
}

function hubBaseOf({ run }: RunFiles): HubBase | null {
  const [reference, commit] = [textAt(run, "model", "reference"), textAt(run, "model", "commit")];
  // A relative path may look like an id: a model of the Hub is known by its commit.
  if (commit === null || reference === null || !looksLikeHubId(reference)) return null;
  const [name = "", revision] = reference.split("@");
  return { name, commit: revision !== undefined && /^[0-9a-f]{40}$/.test(commit) ? commit : null, reference };
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
