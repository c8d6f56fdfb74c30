import { readFile } from "node:fs/promises";
import path from "node:path";
import { InputError } from "../../errors.ts";
import type { Terminal } from "../../terminal.ts";
import { printable } from "../../text.ts";
import { requireFreshFolder, requireOwnFolder } from "../run-folder.ts";
import { CHECKPOINTS_FOLDER, type CheckpointFolder, listCheckpoints } from "./folders.ts";
import { verifyManifest } from "./manifest.ts";
import { type CheckpointState, readState } from "./state.ts";

/** What a run continues from. */
export interface Resumed {
  /** The checkpoint. */
  readonly path: string;
  readonly state: CheckpointState;
  /** Whether the run that goes on is already done, and nothing is left to do. */
  readonly isDone: boolean;
}

/** What `--resume` says: not given, given alone, or with a checkpoint's name or path. */
export type ResumeChoice = string | true | undefined;

/**
 * The checkpoint that a run is to continue from; null where it begins anew. A checkpoint that is not what was written is
 * named and passed over for the one before.
 *
 * @throws InputError where none can be used, and where the output folder may not be written
 */
export async function findCheckpoint(
  outputFolder: string,
  choice: ResumeChoice,
  terminal: Terminal,
): Promise<Resumed | null> {
  if (choice === undefined) {
    await requireFreshFolder(outputFolder);
    return null;
  }
  const folder = path.join(outputFolder, CHECKPOINTS_FOLDER);
  if (choice !== true) return findNamed(outputFolder, folder, choice);
  const checkpoints = await listCheckpoints(folder);
  if (checkpoints.length === 0) {
    await requireOwnFolder(outputFolder);
    terminal.line(`--resume: no checkpoint in ${printable(folder, 1000)}: starting from the beginning`);
    return null;
  }
  for (const checkpoint of checkpoints) {
    try {
      return await open(checkpoint, outputFolder);
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      terminal.line(`note: ${printable(checkpoint.path, 1000)} is damaged and is not used: ${error.message}`);
    }
  }
  throw new InputError(
    `--resume: every checkpoint in ${printable(folder, 1000)} is damaged; to train from the beginning choose another output_dir, or remove it`,
  );
}

async function findNamed(outputFolder: string, folder: string, name: string): Promise<Resumed> {
  const own = await listCheckpoints(folder);
  const named = own.find((checkpoint) => path.basename(checkpoint.path) === name) ?? (await atPath(name));
  if (!named) {
    const names = own.map((checkpoint) => path.basename(checkpoint.path)).join(", ");
    throw new InputError(
      `--resume ${printable(name)}: there is no such checkpoint; ${printable(folder, 1000)} holds ${names || "none"}`,
    );
  }
  const isOwn = path.resolve(path.dirname(named.path)) === path.resolve(folder);
  if (!isOwn) await requireFreshFolder(outputFolder);
  try {
    return await open(named, isOwn ? outputFolder : null);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new InputError(
      `--resume ${printable(name)}: the checkpoint is damaged: ${error.message}; --resume alone takes the newest one that is whole`,
      { cause: error },
    );
  }
}

async function atPath(name: string): Promise<CheckpointFolder | undefined> {
  const wanted = path.resolve(name);
  return (await listCheckpoints(path.dirname(wanted))).find((checkpoint) => checkpoint.path === wanted);
}

async function open(checkpoint: CheckpointFolder, outputFolder: string | null): Promise<Resumed> {
  await verifyManifest(checkpoint.path);
  const state = await readState(checkpoint.path);
  if (state.loop.step !== checkpoint.step) {
    throw new InputError(`${printable(checkpoint.path)}: holds step ${state.loop.step}`);
  }
  return { path: checkpoint.path, state, isDone: outputFolder !== null && (await isDone(outputFolder)) };
}

async function isDone(outputFolder: string): Promise<boolean> {
  try {
    const run: unknown = JSON.parse(await readFile(path.join(outputFolder, "run.json"), "utf8"));
    return (run as { status?: unknown } | null)?.status === "done";
  } catch {
    return false; // Missing or cut short: then the run did not come to its end.
  }
}
