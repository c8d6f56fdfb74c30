/** One file of a repository → one blob: resumed where an earlier run stopped, and checked against its hash. */
import { createHash, type Hash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, mkdir, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { InputError } from "../errors.ts";
import { type Attempt, type RepositoryConnection, request, TransientError, withRetries } from "./http.ts";
import { http1Options } from "./http1.ts";

export interface RemoteFile {
  /** Path in the repository, with "/". */
  path: string;
  url: string;
  sizeBytes: number;
  /** `sha256` of the content for LFS files; `git-sha1`, of Git's blob header and the content, for the others. */
  algorithm: "sha256" | "git-sha1";
  /** Hexadecimal; also the blob's name in the cache. */
  hash: string;
}

/** Where a blob grows. The suffix is ours: versions of huggingface_hub disagree on who may write `HASH.incomplete`. */
export function partialPath(blobPath: string): string {
  return `${blobPath}.dpo-train.incomplete`;
}

/**
 * Downloads `file` to `blobPath`, which appears in one rename, whole and verified.
 *
 * @param onProgress bytes of this file on disk so far; goes back when the file is started anew.
 * @throws InputError when what arrived has not the listed hash, also when downloaded anew, or the network fails for good.
 */
export async function downloadBlob(
  connection: RepositoryConnection,
  file: RemoteFile,
  blobPath: string,
  onProgress: (doneBytes: number) => void,
): Promise<void> {
  await mkdir(dirname(blobPath), { recursive: true });
  const partial = await PartialFile.open(partialPath(blobPath), file);
  try {
    for (let isSecond = false; ; isSecond = true) {
      onProgress(partial.doneBytes);
      if (partial.doneBytes < file.sizeBytes) {
        await withRetries(connection, (attempt) => receive(connection, file, partial, attempt, onProgress));
      }
      const hash = partial.digest();
      if (hash === file.hash) break;
      if (isSecond) {
        await rm(partialPath(blobPath));
        throw new InputError(
          `${connection.subject}: ${file.path} must have ${file.algorithm} ${file.hash}, but what arrived twice has ` +
            `${hash}: it is altered on its way or on the server; try another network, or another HF_ENDPOINT`,
        );
      }
      connection.onNotice(`${connection.subject}: ${file.path} does not match its hash, starting it anew`);
      await partial.restart();
    }
    await partial.sync();
  } finally {
    await partial.close();
  }
  await rename(partialPath(blobPath), blobPath);
}

/** One attempt: appends what the server sends from `partial.doneBytes` on. */
async function receive(
  connection: RepositoryConnection,
  file: RemoteFile,
  partial: PartialFile,
  attempt: Attempt,
  onProgress: (doneBytes: number) => void,
): Promise<void> {
  const from = partial.doneBytes;
  const headers = { "accept-encoding": "identity", ...(from > 0 ? { range: `bytes=${from}-` } : {}) };
  const response = await request(connection, file.url, { ...http1Options(), headers, signal: attempt.signal });
  const range = response.headers.get("content-range");
  if (from > 0 && response.status !== 206) {
    await partial.restart();
  } else if (response.status === 206 && !range?.startsWith(`bytes ${from}-`)) {
    await response.body?.cancel();
    throw new TransientError(`the server sent another part of ${file.path} than asked for`);
  }
  for await (const chunk of response.body ?? []) {
    if (partial.doneBytes + chunk.byteLength > file.sizeBytes) {
      await partial.restart();
      throw new InputError(
        `${connection.subject}: the server sends more of ${file.path} than the ${file.sizeBytes} bytes it lists`,
      );
    }
    await partial.append(chunk);
    attempt.received(partial.doneBytes);
    onProgress(partial.doneBytes);
  }
  if (partial.doneBytes < file.sizeBytes) {
    throw new TransientError(`${file.path} ended after ${partial.doneBytes} of ${file.sizeBytes} bytes`);
  }
}

const READ_BYTES = 1 << 20;

/** A growing file and the hash of what is in it. Owns the file handle. */
class PartialFile {
  doneBytes = 0;
  readonly #handle: FileHandle;
  readonly #file: RemoteFile;
  #hash: Hash;

  private constructor(handle: FileHandle, file: RemoteFile) {
    this.#handle = handle;
    this.#file = file;
    this.#hash = newHash(file);
  }

  /** Opens or creates the file, and hashes what an earlier run left in it. */
  static async open(path: string, file: RemoteFile): Promise<PartialFile> {
    const handle = await open(path, constants.O_RDWR | constants.O_CREAT);
    const partial = new PartialFile(handle, file);
    try {
      await partial.#hashContent();
    } catch (error) {
      await handle.close();
      throw error;
    }
    return partial;
  }

  async #hashContent(): Promise<void> {
    if ((await this.#handle.stat()).size > this.#file.sizeBytes) return this.restart();
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    for (;;) {
      const { bytesRead } = await this.#handle.read(buffer, 0, READ_BYTES, this.doneBytes);
      if (bytesRead === 0) return;
      this.#hash.update(buffer.subarray(0, bytesRead));
      this.doneBytes += bytesRead;
    }
  }

  async append(chunk: Uint8Array): Promise<void> {
    let written = 0;
    while (written < chunk.byteLength) {
      const { bytesWritten } = await this.#handle.write(
        chunk,
        written,
        chunk.byteLength - written,
        this.doneBytes + written,
      );
      written += bytesWritten;
    }
    this.#hash.update(chunk);
    this.doneBytes += written;
  }

  async restart(): Promise<void> {
    await this.#handle.truncate(0);
    this.#hash = newHash(this.#file);
    this.doneBytes = 0;
  }

  /** The hash of the whole; `append` must not follow without `restart`. */
  digest(): string {
    return this.#hash.digest("hex");
  }

  sync(): Promise<void> {
    return this.#handle.sync();
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

function newHash(file: RemoteFile): Hash {
  return file.algorithm === "sha256" ? createHash("sha256") : createHash("sha1").update(`blob ${file.sizeBytes}\0`);
}
