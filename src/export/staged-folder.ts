import { randomBytes } from "node:crypto";
import { readdir, realpath, rename, rm, rmdir, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { TEMPORARY_SUFFIX } from "../weights/atomic-file.ts";
import { makeFolder } from "../weights/make-folder.ts";
import { fileError } from "../weights/regular-file.ts";

/**
 * Owns a folder that appears under its name only when it is complete: files go to a temporary folder beside it, which
 * `publish` renames. After any failure call `discard`, which removes the temporary folder.
 */
export class StagedFolder {
  /** Where to write. */
  readonly path: string;
  readonly #target: string;

  /** Throws InputError unless `target` does not exist or is an empty folder, and can be made. */
  static async create(target: string): Promise<StagedFolder> {
    const place = await requireFreshTarget(target);
    const path = join(dirname(place), `.${basename(place)}.${randomBytes(6).toString("hex")}${TEMPORARY_SUFFIX}`);
    await makeFolder(path);
    return new StagedFolder(path, place);
  }

  private constructor(path: string, target: string) {
    this.path = path;
    this.#target = target;
  }

  /** Gives the folder its name. */
  async publish(): Promise<void> {
    try {
      await removeEmptyFolder(this.#target);
      await rename(this.path, this.#target);
    } catch (cause) {
      throw fileError(this.#target, "create", cause);
    }
  }

  async discard(): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}

/**
 * Where a folder that does not exist yet, or is empty, is to be made: its path without symbolic links.
 * Throws InputError for anything else.
 */
export async function requireFreshTarget(target: string): Promise<string> {
  const place = `the output folder ${printable(target)}`;
  const absolute = resolve(target);
  let names: string[];
  try {
    names = await readdir(absolute);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT") return absolute;
    if (code === "ENOTDIR")
      throw new InputError(`${place} must not exist, or be an empty folder, found a file in its way`);
    throw fileError(target, "open the output folder", cause);
  }
  if (names.length > 0) {
    const found = printable(names.sort().slice(0, 5).join(", "));
    throw new InputError(`${place} must not exist, or be empty, found ${found}; choose another, or remove it`);
  }
  const path = await realpath(absolute);
  if ((await stat(path)).dev !== (await stat(dirname(path))).dev) {
    throw new InputError(
      `${place} must not be a mount point, because it is made under another name first; choose a folder inside it`,
    );
  }
  return path;
}

async function removeEmptyFolder(path: string): Promise<void> {
  try {
    await rmdir(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}
