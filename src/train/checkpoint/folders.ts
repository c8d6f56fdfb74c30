import { readdir, rm } from "node:fs/promises";
import path from "node:path";
import { TEMPORARY_SUFFIX } from "../../weights/atomic-file.ts";
import { fileError } from "../../weights/regular-file.ts";

/** Of the output folder. */
export const CHECKPOINTS_FOLDER = "checkpoints";

const NAME = /^step-(\d{6,15})$/;

/** A checkpoint as its name tells of it: what it holds is not known to be whole. */
export interface CheckpointFolder {
  readonly step: number;
  readonly path: string;
}

/** `step-000048` */
export function checkpointName(step: number): string {
  return `step-${String(step).padStart(6, "0")}`;
}

/** The checkpoints in a folder, the newest first, by their steps. None where there is no such folder. */
export async function listCheckpoints(folder: string): Promise<CheckpointFolder[]> {
  const names = await namesIn(folder);
  return names
    .flatMap((name) => {
      const step = Number(NAME.exec(name)?.[1]);
      return checkpointName(step) === name ? [{ step, path: path.join(folder, name) }] : [];
    })
    .sort((a, b) => b.step - a.step);
}

/** Removes what a process that was killed had begun to write into a folder. */
export async function removeTemporaries(folder: string): Promise<void> {
  for (const name of await namesIn(folder)) {
    if (!name.startsWith(".") || !name.endsWith(TEMPORARY_SUFFIX)) continue;
    const file = path.join(folder, name);
    try {
      await rm(file, { recursive: true, force: true });
    } catch (error) {
      throw fileError(file, "remove", error);
    }
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return [];
    throw fileError(folder, "read", error);
  }
}
