import { type FileHandle, mkdir, open, readdir } from "node:fs/promises";
import path from "node:path";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { writeFileAtomically } from "../weights/atomic-file.ts";
import { fileError } from "../weights/regular-file.ts";
import type { LogRecord } from "./loop.ts";

/**
 * Refuses a folder that holds anything: another run's results must not be mixed with this one's, nor lost.
 * @throws InputError
 */
export async function requireFreshFolder(folder: string): Promise<void> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return;
    if (code === "ENOTDIR") {
      throw new InputError(
        `output_dir ${printable(folder)} must be a folder, found a file; choose another with --set output_dir=FOLDER`,
      );
    }
    throw fileError(folder, "read", error);
  }
  if (names.length === 0) return;
  throw new InputError(
    `output_dir ${printable(folder)} must be empty or not exist, found ${printable(names.sort().slice(0, 5).join(", "))}; ` +
      "choose another with --set output_dir=FOLDER, or remove it",
  );
}

/** Owns the files of a run that grow or are rewritten while it trains. */
export class RunFolder {
  readonly path: string;
  readonly #metrics: FileHandle;

  /** Makes the folder with config.yaml in it. @throws InputError where the file system refuses */
  static async create(folder: string, configYaml: string): Promise<RunFolder> {
    try {
      await mkdir(folder, { recursive: true });
      await writeFileAtomically(path.join(folder, "config.yaml"), configYaml);
      return new RunFolder(folder, await open(path.join(folder, "metrics.jsonl"), "a"));
    } catch (error) {
      if (error instanceof InputError) throw error;
      throw fileError(folder, "create", error);
    }
  }

  private constructor(folder: string, metrics: FileHandle) {
    this.path = folder;
    this.#metrics = metrics;
  }

  /** Appends a record to metrics.jsonl. */
  async record(record: LogRecord): Promise<void> {
    try {
      await this.#metrics.write(`${JSON.stringify(record)}\n`);
    } catch (error) {
      throw fileError(path.join(this.path, "metrics.jsonl"), "write", error);
    }
  }

  /** Writes run.json anew. */
  async describe(run: object): Promise<void> {
    await writeFileAtomically(path.join(this.path, "run.json"), `${JSON.stringify(run, null, 2)}\n`);
  }

  async close(): Promise<void> {
    await this.#metrics.close();
  }
}
