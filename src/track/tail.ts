import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { parseRecord, type RunRecord } from "../train/records.ts";

/** A place between two lines of metrics.jsonl. */
export interface Position {
  readonly lines: number;
  readonly offsetBytes: number;
  /** A hash of all lines before: the same as long as they are. */
  readonly chain: string;
}

export const START: Position = { lines: 0, offsetBytes: 0, chain: "" };

export interface ReadLines {
  readonly records: readonly RunRecord[];
  readonly end: Position;
  /** When the file was last written. */
  readonly modifiedMs: number;
}

const CHUNK_BYTES = 1 << 20;
const LINE_FEED = 0x0a;

/**
 * The whole lines behind a position, at most so many; none where the file is shorter. A line that is no record, as only
 * another program writes it, counts as one without values: places stay what they are.
 */
export async function readLines(file: string, from: Position, maxLines: number): Promise<ReadLines> {
  const handle = await open(file, "r");
  try {
    const { mtimeMs } = await handle.stat();
    const buffer = Buffer.alloc(CHUNK_BYTES);
    const { bytesRead } = await handle.read(buffer, 0, CHUNK_BYTES, from.offsetBytes);
    const records: RunRecord[] = [];
    let { lines, offsetBytes, chain } = from;
    for (let start = 0; records.length < maxLines; ) {
      const feed = buffer.subarray(0, bytesRead).indexOf(LINE_FEED, start);
      if (feed < 0) break;
      const line = buffer.subarray(start, feed);
      records.push(parseRecord(line.toString("utf8")) ?? { step: records.at(-1)?.step ?? 0 });
      chain = createHash("sha256").update(chain).update(line).digest("hex");
      lines += 1;
      offsetBytes += feed + 1 - start;
      start = feed + 1;
    }
    return { records, end: { lines, offsetBytes, chain }, modifiedMs: Math.round(mtimeMs) };
  } finally {
    await handle.close();
  }
}

/** The position behind so many lines; null where the file has fewer. */
export async function findPosition(file: string, lines: number): Promise<Position | null> {
  let position = START;
  while (position.lines < lines) {
    const { end } = await readLines(file, position, lines - position.lines);
    if (end.lines === position.lines) return null;
    position = end;
  }
  return position;
}
