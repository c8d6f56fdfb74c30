import { createHash, type Hash, randomBytes } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileError } from "./regular-file.ts";

/** Ends the name of every temporary file, so that what a killed process left behind can be found. */
export const TEMPORARY_SUFFIX = ".partial";

/**
 * Owns a file that appears under its name only when it is complete: bytes go to a temporary file beside it, `seal`
 * makes them durable, `publish` renames. After any failure call `discard`, which removes the temporary file.
 * Failures of the file system, a full disk for one, are InputErrors.
 */
export class AtomicFile {
  readonly path: string;
  readonly #temporaryPath: string;
  readonly #handle: FileHandle;
  readonly #hash: Hash = createHash("sha256");
  #isOpen = true;

  static async create(path: string): Promise<AtomicFile> {
    const name = `.${basename(path)}.${randomBytes(6).toString("hex")}${TEMPORARY_SUFFIX}`;
    const temporaryPath = join(dirname(path), name);
    return new AtomicFile(path, temporaryPath, await attempt(path, () => open(temporaryPath, "wx")));
  }

  private constructor(path: string, temporaryPath: string, handle: FileHandle) {
    this.path = path;
    this.#temporaryPath = temporaryPath;
    this.#handle = handle;
  }

  /** Appends the bytes. They may change again when the promise resolves. */
  async write(bytes: Uint8Array): Promise<void> {
    this.#hash.update(bytes);
    for (let done = 0; done < bytes.byteLength; ) {
      const { bytesWritten } = await attempt(this.path, () => this.#handle.write(bytes, done));
      done += bytesWritten;
    }
  }

  /** Makes what was written durable. Returns its SHA-256 in hexadecimal. */
  async seal(): Promise<string> {
    await attempt(this.path, () => this.#handle.sync());
    await this.#close();
    return this.#hash.digest("hex");
  }

  /** Gives the sealed file its name, in place of what had it before. */
  async publish(): Promise<void> {
    await attempt(this.path, async () => {
      await rename(this.#temporaryPath, this.path);
      await syncFolder(dirname(this.path));
    });
  }

  async discard(): Promise<void> {
    await this.#close();
    await rm(this.#temporaryPath, { force: true });
  }

  async #close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await this.#handle.close();
  }
}

/** Writes a whole file under its name, or nothing. Returns its SHA-256 in hexadecimal. Throws InputError. */
export async function writeFileAtomically(path: string, content: string | Uint8Array): Promise<string> {
  const file = await AtomicFile.create(path);
  try {
    await file.write(typeof content === "string" ? new TextEncoder().encode(content) : content);
    const sha256Hex = await file.seal();
    await file.publish();
    return sha256Hex;
  } catch (error) {
    await file.discard();
    throw error;
  }
}

/** Makes what a folder's names stand for durable, after a rename for one. Windows cannot open folders, and needs no such step. */
export async function syncFolder(folder: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function attempt<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    throw fileError(path, "write", cause);
  }
}
