import { type FileHandle, open, readFile } from "node:fs/promises";
import { writeFileAtomically } from "../weights/atomic-file.ts";
import { fileError } from "../weights/regular-file.ts";
import { parseRecords, type RunRecord } from "./records.ts";

/** Owns a file of JSON lines that is appended to. */
export class GrowingFile {
  readonly path: string;
  readonly #handle: FileHandle;

  /** @throws InputError where the file system refuses */
  static async create(path: string, content: string | Uint8Array): Promise<GrowingFile> {
    await writeFileAtomically(path, content);
    try {
      return new GrowingFile(path, await open(path, "a"));
    } catch (error) {
      throw fileError(path, "create", error);
    }
  }

  private constructor(path: string, handle: FileHandle) {
    this.path = path;
    this.#handle = handle;
  }

  /** Appends a record. @throws InputError where the file system refuses */
  async append(record: object): Promise<void> {
    try {
      await this.#handle.appendFile(`${JSON.stringify(record)}\n`);
    } catch (error) {
      throw fileError(this.path, "write", error);
    }
  }

  /** May be called again. */
  async close(): Promise<void> {
    await this.#handle.close();
  }
}

/**
 * The records of a file up to a step, as they would be written again; nothing where there is no such file.
 * @throws InputError where the file system refuses
 */
export async function readUpTo(path: string, step: number): Promise<string> {
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return "";
    throw fileError(path, "read", error);
  });
  const kept = parseRecords(text).train.filter((record: RunRecord) => record.step <= step);
  return kept.map(({ step, ...values }) => `${JSON.stringify({ step, ...values })}\n`).join("");
}
