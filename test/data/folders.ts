import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";

export const TWIN_TINY = fileURLToPath(new URL("../../examples/twin-tiny/model", import.meta.url));

/** A folder that is deleted when the test ends. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "dpo-train-data-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  return folder;
}

/** A file with this content, in a folder that is deleted when the test ends. */
export async function temporaryFile(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(await temporaryFolder(), name);
  await writeFile(path, content);
  return path;
}

/** A file with one JSON value a line. */
export function jsonlFile(rows: readonly unknown[]): Promise<string> {
  return temporaryFile("rows.jsonl", rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
}

/** twin-tiny's tokenizer with other files beside or in place of its own; null leaves a file out. */
export async function tokenizerFolder(files: Record<string, string | null>): Promise<string> {
  const folder = await temporaryFolder();
  for (const name of ["tokenizer.json", "tokenizer_config.json"]) {
    if (files[name] === undefined) await copyFile(join(TWIN_TINY, name), join(folder, name));
  }
  for (const [name, text] of Object.entries(files)) {
    if (text !== null) await writeFile(join(folder, name), text);
  }
  return folder;
}
