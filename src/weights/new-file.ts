import { writeFile } from "node:fs/promises";
import { fileError } from "./regular-file.ts";

/** Writes a file that is not there yet. @throws InputError where it is, or cannot be written */
export async function writeNewFile(path: string, content: string): Promise<void> {
  try {
    await writeFile(path, content, { flag: "wx" });
  } catch (cause) {
    throw fileError(path, "write", cause);
  }
}
