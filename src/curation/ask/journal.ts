import { type FileHandle, open, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { InputError } from "../../errors.ts";
import { printable } from "../../text.ts";
import { syncFolder } from "../../weights/atomic-file.ts";
import { fileError, openRegularFile } from "../../weights/regular-file.ts";

/** Tokens as the server counts them for its bill, or an estimate where it does not say. */
export interface Usage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly isEstimated: boolean;
}

/** What came of one call, or of one answer of our own model. */
export type JournalEntry =
  | {
      readonly kind: "response";
      /** SHA-256 of what was asked. */
      readonly request: string;
      readonly model: string;
      readonly at: string;
      readonly elapsedMs: number;
      readonly content: string;
      readonly refusal: string | null;
      readonly finishReason: string | null;
      readonly usage: Usage;
    }
  | {
      readonly kind: "failure";
      readonly request: string;
      readonly model: string;
      readonly at: string;
      readonly elapsedMs: number;
      readonly status: number | null;
      readonly reason: string;
      /** What a call that was cut off may cost; null where the server answered that it failed. */
      readonly usage: Usage | null;
    }
  | {
      readonly kind: "generation";
      readonly request: string;
      readonly at: string;
      readonly elapsedMs: number;
      readonly text: string;
      readonly isCut: boolean;
    };

export type Response = Extract<JournalEntry, { kind: "response" }>;

const VERSION = 1;
const KINDS = new Set<string>(["response", "failure", "generation"] satisfies JournalEntry["kind"][]);

/**
 * Owns an append-only file of JSON lines in which every answer is kept as soon as it is there, so that a command that was
 * killed at any moment goes on without asking again. An entry is durable when `append` resolves.
 */
export class Journal {
  readonly path: string;
  /** What was there when the file was opened, and what came since, in order. */
  readonly entries: JournalEntry[];
  /** Bytes of a last line that was cut off when it was written, and was taken away; 0 as a rule. */
  readonly cutBytes: number;
  readonly #handle: FileHandle;
  readonly #waiting: { line: string; resolve: () => void; reject: (error: unknown) => void }[] = [];
  #isWriting = false;
  #failure: unknown;

  /**
   * Opens a journal, or starts one.
   *
   * @param task what the journal is of: another task's is refused
   * @throws InputError where the file is something else, is damaged elsewhere than at its end, or cannot be written
   */
  static async open(path: string, task: string): Promise<Journal> {
    const header = headerOf(task);
    const { entries, keptBytes, sizeBytes, newlineMissing } = await read(path, header);
    let handle: FileHandle | undefined;
    try {
      handle = await open(path, "a");
      if (keptBytes < sizeBytes) await handle.truncate(keptBytes);
      if (newlineMissing) await handle.write("\n");
      if (keptBytes === 0) await handle.write(header);
      await handle.sync();
      await syncFolder(dirname(path));
    } catch (error) {
      await handle?.close();
      throw fileError(path, "write", error);
    }
    return new Journal(path, handle, entries, sizeBytes - keptBytes);
  }

  private constructor(path: string, handle: FileHandle, entries: JournalEntry[], cutBytes: number) {
    this.path = path;
    this.#handle = handle;
    this.entries = entries;
    this.cutBytes = cutBytes;
  }

  /** @throws InputError where the file cannot be written, a full disk for one; then no later entry is written either */
  append(entry: JournalEntry): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      this.#waiting.push({ line: `${JSON.stringify(entry)}\n`, resolve, reject });
      if (!this.#isWriting) void this.#write();
    }).then(() => void this.entries.push(entry));
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  /** Writes what waits, at once, so that calls side by side share a sync. */
  async #write(): Promise<void> {
    this.#isWriting = true;
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0);
      try {
        if (this.#failure !== undefined) throw this.#failure;
        const bytes = Buffer.from(batch.map(({ line }) => line).join(""));
        for (let done = 0; done < bytes.length; ) done += (await this.#handle.write(bytes, done)).bytesWritten;
        await this.#handle.datasync();
        for (const { resolve } of batch) resolve();
      } catch (error) {
        this.#failure ??= fileError(this.path, "write", error);
        for (const { reject } of batch) reject(this.#failure);
      }
    }
    this.#isWriting = false;
  }
}

/** The entries of a journal, none where there is no file. Changes nothing. @throws InputError as `Journal.open` does */
export async function readJournal(path: string, task: string): Promise<JournalEntry[]> {
  return (await read(path, headerOf(task))).entries;
}

function headerOf(task: string): string {
  return `${JSON.stringify({ dpo_train_journal: VERSION, task })}\n`;
}

async function readBytes(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return Buffer.alloc(0);
    throw fileError(path, "read", error);
  }
}

interface Found {
  readonly entries: JournalEntry[];
  readonly sizeBytes: number;
  /** Without a last line that was cut off. */
  readonly keptBytes: number;
  readonly newlineMissing: boolean;
}

async function read(path: string, header: string): Promise<Found> {
  await refuseOtherThanFile(path);
  const bytes = await readBytes(path);
  const end = bytes.lastIndexOf("\n") + 1;
  const name = printable(path);
  if (end === 0 && header.startsWith(bytes.toString("utf8"))) {
    return { entries: [], sizeBytes: bytes.length, keptBytes: 0, newlineMissing: false };
  }
  if (!bytes.subarray(0, end).toString("utf8").startsWith(header)) {
    throw new InputError(
      `${name}: must be a journal of this command, which begins with ${header.trim()}; move the file away or choose another --out`,
    );
  }
  const entries: JournalEntry[] = [];
  let start = Buffer.byteLength(header);
  for (let line = 2; start < end; line++) {
    const stop = bytes.indexOf("\n", start);
    const entry = parseEntry(bytes.subarray(start, stop));
    if (entry === null) {
      throw new InputError(
        `${name}:${line}: must be an entry that dpo-train wrote, found something else: restore the file, or take the line out and its answer is asked for again`,
      );
    }
    entries.push(entry);
    start = stop + 1;
  }
  const last = parseEntry(bytes.subarray(end));
  if (last !== null) entries.push(last);
  const keptBytes = last === null ? end : bytes.length;
  return { entries, sizeBytes: bytes.length, keptBytes, newlineMissing: last !== null };
}

async function refuseOtherThanFile(path: string): Promise<void> {
  try {
    const { handle } = await openRegularFile(path);
    await handle.close();
  } catch (error) {
    const { code } = ((error as Error).cause ?? {}) as NodeJS.ErrnoException;
    if (code !== "ENOENT") throw error;
  }
}

function parseEntry(bytes: Uint8Array): JournalEntry | null {
  try {
    const entry = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as JournalEntry;
    return KINDS.has(entry.kind) && typeof entry.request === "string" ? entry : null;
  } catch {
    return null;
  }
}
