import { realpath, stat } from "node:fs/promises";
import { basename, dirname, join, sep } from "node:path";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { requirePlainFileName } from "./file-name.ts";
import { fileError } from "./regular-file.ts";

// A model folder is untrusted: a name in it must not lead to another file of this machine.

/** Throws InputError unless `folder` is a folder. `what` says what it should be, as in "a model folder". */
export async function requireFolder(folder: string, what: string): Promise<void> {
  let isFolder: boolean;
  try {
    isFolder = (await stat(folder)).isDirectory();
  } catch (cause) {
    throw fileError(folder, `open ${what}`, cause);
  }
  if (!isFolder) throw new InputError(`${printable(folder)}: must be ${what}, found a file`);
}

/**
 * The path to open for `name` in `folder`, or undefined when there is no such file. A symbolic link may lead to another
 * place in the folder, or, in a Hugging Face cache (`models--owner--name/snapshots/commit/`), to a file directly in that
 * repository's `blobs/`; anything else throws InputError before it is opened.
 */
export async function findInFolder(folder: string, name: string): Promise<string | undefined> {
  requirePlainFileName(name, folder);
  const path = join(folder, name);
  let target: string;
  let root: string;
  try {
    root = await realpath(folder);
    target = await realpath(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw fileError(path, "open", cause);
  }
  const blobs = cacheBlobsFolder(root);
  const isInside = target.startsWith(root.endsWith(sep) ? root : root + sep);
  if (isInside || (blobs !== undefined && dirname(target) === blobs)) return path;
  throw new InputError(
    `${printable(path)}: must not be a symbolic link out of the folder, found one to ${printable(target)}; copy the file into the folder`,
  );
}

/** The `blobs` folder that the links of a Hugging Face cache snapshot lead to, when `root` is (in) such a snapshot. */
function cacheBlobsFolder(root: string): string | undefined {
  for (let folder = root; folder !== dirname(folder); folder = dirname(folder)) {
    const snapshots = dirname(folder);
    const repository = dirname(snapshots);
    if (basename(snapshots) === "snapshots" && basename(repository).startsWith("models--")) {
      return join(repository, "blobs");
    }
  }
  return undefined;
}
