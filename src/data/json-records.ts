import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { formatOf, MAX_RECORD_BYTES, readChunks } from "./data-file.ts";

const NEWLINE = 0x0a;
const QUOTE = 0x22;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** The bytes of one JSON value and the line it starts on, from 1. Not parsed yet. */
export interface JsonRecord {
  line: number;
  bytes: Uint8Array;
}

/** The JSON values of a .jsonl or .json file, also of one in .gz, read as a stream. @throws InputError */
export async function* readJsonRecords(path: string): AsyncGenerator<JsonRecord> {
  const name = printable(path);
  const { format, isGzip = false } = formatOf(path) ?? {};
  if (format !== "jsonl" && format !== "json") {
    throw new InputError(
      `${name}: must be a .jsonl file (one JSON object a line) or a .json file (an array of objects)`,
    );
  }
  yield* splitJsonRecords(readChunks({ path, name }, isGzip), name, format);
}

/**
 * The JSON values of a file: one a line (blank lines skipped), or the elements of one array.
 *
 * @param chunks the file's bytes
 * @param name the file as messages name it, printable
 * @param kind `json`: the first character tells which; Hub repositories give both this extension
 * @throws InputError for an array that is not well formed, or a record over 64 MiB
 */
export async function* splitJsonRecords(
  chunks: AsyncIterable<Uint8Array>,
  name: string,
  kind: "jsonl" | "json",
): AsyncGenerator<JsonRecord> {
  let splitter = kind === "jsonl" ? lineSplitter(name) : undefined;
  let isFirst = true;
  for await (const chunk of chunks) {
    if (isFirst && chunk[0] === 0xef && chunk[1] === 0xbb && chunk[2] === 0xbf) {
      throw new InputError(`${name}:1: must be UTF-8 without a byte order mark, found one; save the file without it`);
    }
    isFirst = false;
    splitter ??= chunk.find((byte) => !isWhitespace(byte)) === OPEN_BRACE ? lineSplitter(name) : arraySplitter(name);
    yield* splitter.push(chunk);
  }
  yield* (splitter ?? arraySplitter(name)).end();
}

interface Splitter {
  push(chunk: Uint8Array): Iterable<JsonRecord>;
  end(): Iterable<JsonRecord>;
}

function lineSplitter(name: string): Splitter {
  const pending = recordBuffer(name);
  let line = 1;

  function* takeRecord(): Generator<JsonRecord> {
    const bytes = pending.take();
    if (!bytes.every(isWhitespace)) yield { line, bytes };
  }

  return {
    *push(chunk) {
      let start = 0;
      for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
        pending.append(chunk.subarray(start, end), line);
        yield* takeRecord();
        line++;
        start = end + 1;
      }
      pending.append(chunk.subarray(start), line);
    },
    end: takeRecord,
  };
}

/** Finds the elements of the outer array by their brackets, quotes and commas alone. */
function arraySplitter(name: string): Splitter {
  const pending = recordBuffer(name);
  let line = 1;
  let recordLine = 0;
  let place: "before" | "first" | "later" | "after" = "before";
  let depth = 0;
  let inString = false;
  let escaped = false;

  function* takeRecord(closing: boolean): Generator<JsonRecord> {
    if (recordLine > 0) yield { line: recordLine, bytes: pending.take() };
    else if (!closing || place === "later") throw new InputError(`${name}:${line}: an element of the array is empty`);
    recordLine = 0;
    place = closing ? "after" : "later";
  }

  /** Whether this byte, inside the array, ends an element. */
  function endsElement(byte: number): boolean {
    if (inString) {
      if (escaped) escaped = false;
      else if (byte === BACKSLASH) escaped = true;
      else if (byte === QUOTE) inString = false;
      return false;
    }
    if (depth === 0 && (byte === COMMA || byte === CLOSE_BRACKET)) return true;
    if (byte === QUOTE) inString = true;
    else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) depth++;
    else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) depth--;
    return false;
  }

  /** Takes a byte before or after the array; the opening bracket leads into it. */
  function takeOutside(byte: number): void {
    if (isWhitespace(byte)) return;
    if (place === "after") throw new InputError(`${name}:${line}: text follows the end of the array; remove it`);
    if (byte !== OPEN_BRACKET) {
      throw new InputError(`${name}:${line}: a .json file must hold one array of rows, or one object a line`);
    }
    place = "first";
  }

  return {
    *push(chunk) {
      let start = 0;
      for (let i = 0; i < chunk.length; i++) {
        const byte = chunk[i]!;
        if (place === "before" || place === "after") {
          takeOutside(byte);
        } else if (endsElement(byte)) {
          if (recordLine > 0) pending.append(chunk.subarray(start, i), recordLine);
          yield* takeRecord(byte === CLOSE_BRACKET);
        } else if (recordLine === 0 && !isWhitespace(byte)) {
          recordLine = line;
          start = i;
        }
        if (byte === NEWLINE) line++;
      }
      if (recordLine > 0) pending.append(chunk.subarray(start), recordLine);
    },
    end() {
      if (place === "before") throw new InputError(`${name}: must hold an array of rows, found an empty file`);
      if (place !== "after") {
        throw new InputError(`${name}:${recordLine || line}: the array is not closed; the file seems to be cut off`);
      }
      return [];
    },
  };
}

/** Collects the pieces of one record as they arrive. */
function recordBuffer(name: string) {
  let pieces: Uint8Array[] = [];
  let sizeBytes = 0;
  return {
    append(piece: Uint8Array, line: number): void {
      sizeBytes += piece.length;
      if (sizeBytes > MAX_RECORD_BYTES) {
        throw new InputError(
          `${name}:${line}: a row must be at most ${MAX_RECORD_BYTES} bytes long, found a longer one`,
        );
      }
      if (piece.length > 0) pieces.push(piece);
    },
    take(): Uint8Array {
      const bytes = pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces, sizeBytes);
      pieces = [];
      sizeBytes = 0;
      return bytes;
    },
  };
}

function isWhitespace(byte: number): boolean {
  return byte === 0x20 || (byte >= 0x09 && byte <= 0x0d && byte !== 0x0b && byte !== 0x0c);
}
