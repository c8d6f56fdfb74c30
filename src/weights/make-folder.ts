import { mkdir, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { fileError } from "./regular-file.ts";

/**
 * Makes a folder and those it lies in, unless they are there. Node's own `recursive` never ends where a file system, such
 * as /proc, answers that a parent is missing which it lists.
 *
 * @throws InputError where the file system refuses
 */
export async function makeFolder(folder: string): Promise<void> {
  try {
    await makeFolders(folder);
  } catch (error) {
    throw fileError(folder, "create", error);
  }
}

async function makeFolders(folder: string): Promise<void> {
  const parent = dirname(folder);
  try {
    await makeOne(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT" || parent === folder) throw error;
    await makeFolders(parent);
    await makeOne(folder);
  }
}

async function makeOne(folder: string): Promise<void> {
  try {
    await mkdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST" || !(await stat(folder)).isDirectory()) throw error;
  }
}
