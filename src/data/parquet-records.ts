import { type AsyncBuffer, parquetMetadataAsync, parquetReadObjects, parquetSchema } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { openRegularFile, readExactly } from "../weights/regular-file.ts";
import type { DataFile } from "./data-file.ts";

export interface ParquetRecord {
  /** The row's number in the file, from 1. */
  row: number;
  values: Record<string, unknown>;
}

/** Text that is not UTF-8 stays bytes, to be refused with its row. */
const PARSERS = { stringFromBytes: decodeText, jsonFromBytes: parseJson };

/**
 * The rows of a Parquet file, one row group after another, with the wanted columns alone. Numbers come as JSON has them.
 *
 * @param wanted picks from the file's columns; where it picks none, the first row is given with all columns, to be shown
 * @throws InputError when the file is no Parquet file, is damaged, or uses what hyparquet cannot read
 */
export async function* readParquetRecords(
  { path, name }: DataFile,
  wanted: (columns: readonly string[]) => string[],
): AsyncGenerator<ParquetRecord> {
  const { handle, sizeBytes } = await openRegularFile(path);
  const file: AsyncBuffer = {
    byteLength: sizeBytes,
    slice: async (start, end = sizeBytes) => {
      const bytes = new Uint8Array(end - start);
      await readExactly(handle, path, bytes, start);
      return bytes.buffer;
    },
  };
  try {
    const metadata = await reading(name, parquetMetadataAsync(file));
    const available = parquetSchema(metadata).children.map(({ element }) => element.name);
    const columns = wanted(available);
    const isShown = columns.length === 0;
    let row = 1;
    for (const group of metadata.row_groups) {
      const groupRows = isShown ? Math.min(1, Number(group.num_rows)) : Number(group.num_rows);
      const ofGroup = { file, compressors, parsers: PARSERS, metadata: { ...metadata, row_groups: [group] } };
      let values: ParquetRecord["values"][] | undefined;
      // One column after another, so that only the strings and one column's bytes are in memory at once.
      for (const column of isShown ? available : columns) {
        const options = { ...ofGroup, columns: [column], rowStart: 0, rowEnd: groupRows };
        const cells = await reading(name, parquetReadObjects(options));
        if (cells.length !== groupRows) {
          throw new InputError(
            `${name}: a row group must hold ${groupRows} rows by its own count, found ${cells.length}; fetch the file again`,
          );
        }
        if (values === undefined) values = cells.map(plain);
        else for (const [i, cell] of cells.entries()) values[i]![column] = plain(cell[column]);
      }
      for (const record of values ?? []) yield { row: row++, values: record };
      if (isShown && groupRows > 0) return;
    }
  } finally {
    await handle.close();
  }
}

async function reading<T>(name: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof InputError) throw error;
    const reason = printable((error as Error).message);
    throw new InputError(`${name}: is not a Parquet file that can be read (${reason}); fetch it again`, {
      cause: error,
    });
  }
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function decodeText(bytes: Uint8Array | undefined): unknown {
  if (bytes === undefined || bytes === null) return bytes;
  try {
    return decoder.decode(bytes);
  } catch {
    return bytes.slice();
  }
}

function parseJson(bytes: Uint8Array | undefined): unknown {
  const text = decodeText(bytes);
  if (typeof text !== "string") return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Integers of 64 bits, which templates cannot take, as numbers where these hold them. Changes lists and objects in place. */
function plain<T>(value: T): T {
  if (typeof value === "bigint") {
    const number = Number(value);
    return (Number.isSafeInteger(number) ? number : String(value)) as T;
  }
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value;
  const fields = value as Record<string, unknown>;
  for (const [key, inner] of Object.entries(fields)) {
    if (typeof inner === "bigint" || typeof inner === "object") fields[key] = plain(inner);
  }
  return value;
}
