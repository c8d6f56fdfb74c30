import { createGunzip } from "node:zlib";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { fileError, openRegularFile } from "../weights/regular-file.ts";

/** The longest record. Far above any preference pair; below it a broken file cannot fill the memory. */
export const MAX_RECORD_BYTES = 64 * 2 ** 20;

/** A file of rows. */
export interface DataFile {
  /** Where it lies on this machine. */
  readonly path: string;
  /** As messages and run.json name it, printable: the path as it was given, or `owner/name/data/train.jsonl`. */
  readonly name: string;
}

export type DataFormat = "jsonl" | "json" | "csv" | "tsv" | "parquet";

const EXTENSIONS: Readonly<Record<string, DataFormat>> = {
  jsonl: "jsonl",
  ndjson: "jsonl",
  json: "json",
  csv: "csv",
  tsv: "tsv",
  parquet: "parquet",
};

/** What is read, as messages list it. */
export const READ_FORMATS = ".jsonl, .json, .csv, .tsv and .parquet files (the text ones also as .gz)";

/** The format that a file's name tells, or undefined where it is none that is read. */
export function formatOf(name: string): { format: DataFormat; isGzip: boolean } | undefined {
  const [, extension, gzip] = /\.([a-z]+)(\.gz)?$/i.exec(name) ?? [];
  const format = EXTENSIONS[extension?.toLowerCase() ?? ""];
  if (format === undefined || (format === "parquet" && gzip !== undefined)) return undefined;
  return { format, isGzip: gzip !== undefined };
}

/**
 * The bytes of a file in pieces, decompressed where it is gzip.
 *
 * @throws InputError when it cannot be read, or is not the gzip that its name says
 */
export async function* readChunks({ path, name }: DataFile, isGzip: boolean): AsyncGenerator<Uint8Array> {
  const { handle } = await openRegularFile(path);
  try {
    const stream = handle.createReadStream({ autoClose: false });
    if (!isGzip) {
      yield* stream as AsyncIterable<Uint8Array>;
      return;
    }
    const gunzip = createGunzip();
    stream.on("error", (error) => gunzip.destroy(error));
    yield* stream.pipe(gunzip) as AsyncIterable<Uint8Array>;
  } catch (error) {
    const { code = "", message } = error as NodeJS.ErrnoException;
    if (code.startsWith("Z_")) {
      throw new InputError(`${name}: is not a whole gzip file (${printable(message)}): fetch it again`, {
        cause: error,
      });
    }
    throw fileError(path, "read", error);
  } finally {
    await handle.close();
  }
}
