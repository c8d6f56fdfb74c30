import { type FileHandle, open, stat } from "node:fs/promises";
import { parseRecord, type RunRecord } from "../train/records.ts";

/** How far a file of JSON lines has been read. */
export interface Place {
  readonly offsetBytes: number;
  /** Of the file that was read; null where that is not known. */
  readonly inode: number | null;
}

export const BEGINNING: Place = { offsetBytes: 0, inode: null };

/** Longer than any line of ours. */
const MAX_LINE_BYTES = 1 << 16;
/** Read at once: the rest comes with the next call. */
const MAX_READ_BYTES = 4 << 20;
const LINE_FEED = 0x0a;

/**
 * The whole lines of a file behind a place. A file that is another one by now, or shorter, is read from its beginning: a run
 * that is continued begins its files anew. A place inside of a line, which may come from anywhere, counts as the beginning of
 * that line.
 */
export async function readNew(file: string, from: Place): Promise<{ records: RunRecord[]; end: Place }> {
  // Most of the files of a sweep are at rest.
  const now = await stat(file).catch(() => null);
  if (now && now.ino === from.inode && now.size === from.offsetBytes) return { records: [], end: from };
  const handle = await openIfThere(file);
  if (!handle) return { records: [], end: BEGINNING };
  try {
    const { size, ino: inode } = await handle.stat();
    const isSame = from.offsetBytes <= size && (from.inode === null || from.inode === inode);
    let start = isSame ? from.offsetBytes : 0;
    if (from.inode === null) start = await lineStart(handle, start);
    const text = await read(handle, start, Math.min(size, start + MAX_READ_BYTES));
    const length = text.lastIndexOf(LINE_FEED) + 1;
    const lines = text.toString("utf8", 0, length).split("\n");
    const records = lines.flatMap((line) => parseRecord(line) ?? []);
    return { records, end: { offsetBytes: start + length, inode } };
  } finally {
    await handle.close();
  }
}

/** What is changed by every write to a file: empty where there is none. */
export async function stampOf(file: string): Promise<string> {
  const found = await stat(file).catch(() => null);
  return found ? `${found.ino} ${found.size} ${found.mtimeMs}` : "";
}

/** Its length, or 0 where there is none. */
export async function sizeOf(file: string): Promise<number> {
  return (await stat(file).catch(() => null))?.size ?? 0;
}

async function openIfThere(file: string): Promise<FileHandle | null> {
  try {
    return await open(file, "r");
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return null;
    throw error;
  }
}

async function lineStart(handle: FileHandle, offsetBytes: number): Promise<number> {
  const from = Math.max(0, offsetBytes - MAX_LINE_BYTES);
  const before = await read(handle, from, offsetBytes);
  return from + before.lastIndexOf(LINE_FEED) + 1;
}

async function read(handle: FileHandle, from: number, to: number): Promise<Buffer> {
  const buffer = Buffer.alloc(Math.max(0, to - from));
  const { bytesRead } = await handle.read(buffer, 0, buffer.length, from);
  return buffer.subarray(0, bytesRead);
}
