import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { CsvError, type InfoRecord, parse } from "csv-parse";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { MAX_RECORD_BYTES } from "./data-file.ts";
import { RowProblem } from "./row-columns.ts";

const NEWLINE = 0x0a;

/** The cells of one CSV row by their columns, and the line it starts on, from 1. */
export interface CsvRecord {
  line: number;
  /** @throws RowProblem where the row has more or fewer cells than the header, or a cell cannot be read */
  read(): Record<string, unknown>;
}

/**
 * The rows of a CSV file with a header (RFC 4180: quoted cells may hold commas, quotes and line ends). A byte order mark
 * and empty lines are skipped. A cell that holds a JSON list of objects is that list: conversations are stored so.
 *
 * @param name the file as messages name it, printable
 * @throws InputError when quotes do not match, the text is not UTF-8, or a row is over 64 MiB
 */
export async function* readCsvRecords(
  chunks: AsyncIterable<Uint8Array>,
  name: string,
  delimiter: "," | "\t",
): AsyncGenerator<CsvRecord> {
  const parser = parse({
    delimiter,
    info: true,
    raw: true,
    relax_column_count: true,
    skip_empty_lines: true,
    record_delimiter: ["\r\n", "\n", "\r"],
    max_record_size: MAX_RECORD_BYTES,
  });
  // A failure of the source ends the parser with the same error, which the loop below throws.
  pipeline(Readable.from(decodeUtf8(chunks, name)), parser).catch(() => {});
  const lines = lineCounter();
  let header: string[] | undefined;
  try {
    for await (const { record, raw } of parser as AsyncIterable<{ record: string[]; raw: string; info: InfoRecord }>) {
      const line = lines.startOf(raw);
      if (header === undefined) {
        header = checkHeader(record, `${name}:${line}`);
        continue;
      }
      const columns = header;
      yield { line, read: () => toRow(columns, record) };
    }
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    // Records that were parsed before are lost, so that only the parser's own count tells the line, which is not exact.
    const near = String((error as { lines?: unknown }).lines ?? lines.next);
    throw new InputError(`${name}: is not CSV that can be read: near line ${near} ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

function reasonOf({ code, message }: CsvError): string {
  if (code === "CSV_QUOTE_NOT_CLOSED") return 'a quote (") is opened and never closed';
  if (code === "CSV_MAX_RECORD_SIZE") return `a row must be at most ${MAX_RECORD_BYTES} bytes long, found a longer one`;
  if (code === "CSV_INVALID_CLOSING_QUOTE" || code === "INVALID_OPENING_QUOTE") {
    return 'a quote (") stands inside a cell; put the cell in quotes and write "" for a quote in it';
  }
  return printable(message);
}

/** Text of the chunks without a byte order mark. @throws InputError naming the line of the first wrong byte */
async function* decodeUtf8(chunks: AsyncIterable<Uint8Array>, name: string): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let line = 1;
  const decode = (chunk?: Uint8Array): string => {
    try {
      return chunk === undefined ? decoder.decode() : decoder.decode(chunk, { stream: true });
    } catch {
      throw new InputError(
        `${name}: must be UTF-8, found other bytes after line ${line}; save the file as UTF-8 (in a spreadsheet: "CSV UTF-8")`,
      );
    }
  };
  for await (const chunk of chunks) {
    yield decode(chunk);
    for (const byte of chunk) if (byte === NEWLINE) line++;
  }
  yield decode();
}

/** The lines of records, from the raw text of each. The parser's own count takes CRLF inside quotes for two line ends. */
function lineCounter() {
  let next = 1;
  let endedWithReturn = false;
  return {
    /** The line that the next record starts on at the earliest. */
    get next(): number {
      return next;
    },
    startOf(raw: string): number {
      const text = endedWithReturn && raw.startsWith("\n") ? raw.slice(1) : raw;
      const blank = /^[\r\n]*/.exec(text)![0];
      const start = next + countLines(blank);
      next = start + countLines(text.slice(blank.length));
      endedWithReturn = text.endsWith("\r");
      return start;
    },
  };
}

function countLines(text: string): number {
  return text.match(/\r\n|\n|\r/g)?.length ?? 0;
}

function checkHeader(names: readonly string[], place: string): string[] {
  const twice = names.find((name, i) => name !== "" && names.indexOf(name) !== i);
  if (twice === undefined) return [...names];
  throw new InputError(`${place}: the header names the column "${printable(twice, 40)}" twice: rename one`);
}

function toRow(header: readonly string[], cells: readonly string[]): Record<string, unknown> {
  if (cells.length !== header.length) {
    throw new RowProblem(`a row must have ${header.length} cells, as the header has, found ${cells.length}`);
  }
  return Object.fromEntries(header.map((name, i) => [name, cellValue(name, cells[i]!)]));
}

function cellValue(name: string, text: string): unknown {
  if (!/^\s*\[\s*\{/.test(text)) return text;
  try {
    return JSON.parse(text);
  } catch {
    if (!/^\s*\[\s*\{\s*'/.test(text)) return text;
    throw new RowProblem(
      `${printable(name, 40)} holds a list as Python prints it: write the conversations with json.dumps`,
    );
  }
}
