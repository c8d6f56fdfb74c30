import { list } from "../config/words.ts";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { readCsvRecords } from "./csv-records.ts";
import { type DataFile, formatOf, READ_FORMATS, readChunks } from "./data-file.ts";
import type { Triple } from "./extract-prompt.ts";
import { splitJsonRecords } from "./json-records.ts";
import { readParquetRecords } from "./parquet-records.ts";
import { createRowProblems, placeOf, type RowSource } from "./problems.ts";
import {
  type ColumnNames,
  type Message,
  MissingColumn,
  parseRow,
  RowProblem,
  rowColumns,
  wantedColumns,
} from "./row-columns.ts";
import { LAYOUTS, type Layout, layOut, toRow } from "./row-layouts.ts";
import { unknownLayout } from "./unknown-layout.ts";

/** A preference pair as text, before any template. */
export interface TextRow extends Triple<string> {
  kind: "text";
  source: RowSource;
  /** The system message, where a column has one. */
  system?: string;
  /** The same pair as a conversation, where the text marks its turns as HH-RLHF does. */
  dialogue?: Triple<Message[]>;
}

/** A preference pair as messages: the prompt's, and those of each answer without the prompt's. */
export interface MessagesRow extends Triple<Message[]> {
  kind: "messages";
  source: RowSource;
}

export type PreferenceRow = TextRow | MessagesRow;

export interface ReadRowsOptions {
  /** Stop after this many rows. */
  maxRows?: number | undefined;
  /** What columns are called in the data. */
  columns?: ColumnNames | undefined;
}

/**
 * Reads the preference rows of JSONL, JSON, CSV and Parquet files, one after another, as a stream. All are laid out alike,
 * in one of these ways: text prompt, chosen and rejected; the same with question and system in place of prompt (Orca);
 * messages in all three, the answers with or without the prompt in front; a text prompt beside whole conversations in
 * chosen and rejected (UltraFeedback); chosen and rejected alone, text or conversations, where the prompt is what both
 * start with (TRL's `extract_prompt`; HH-RLHF). Other columns are ignored.
 *
 * @param given the path of a file, or several files
 * @throws InputError when a file cannot be read, there is no row, or the first row is laid out in none of these ways; or
 *   naming by file, line and field the rows that cannot be used (the first 20, and how many there are)
 */
export async function readPreferenceRows(
  given: string | readonly DataFile[],
  { maxRows = Number.POSITIVE_INFINITY, columns = {} }: ReadRowsOptions = {},
): Promise<PreferenceRow[]> {
  const files = typeof given === "string" ? [{ path: given, name: printable(given) }] : given;
  const problems = createRowProblems();
  const rows: PreferenceRow[] = [];
  let first: { layout: Layout; source: RowSource } | undefined;
  for await (const { source, read } of readRecords(files, columns)) {
    if (rows.length + problems.count >= maxRows) break;
    try {
      const laidOut = layOut(rowColumns(read(), columns));
      first ??= { layout: laidOut.layout, source };
      if (laidOut.layout !== first.layout) {
        throw new RowProblem(
          `all rows of a data set must be laid out alike: ${LAYOUTS[first.layout]} (as ${whereOf(first.source, source)}), ` +
            `found ${LAYOUTS[laidOut.layout]}`,
        );
      }
      rows.push(toRow(laidOut, source));
    } catch (error) {
      if (!(error instanceof RowProblem)) throw error;
      const isFirst = rows.length + problems.count === 0;
      if (isFirst && error instanceof MissingColumn) throw unknownLayout(error, source);
      problems.add(source, error.message);
    }
  }
  problems.throwIfAny();
  if (rows.length === 0) {
    throw new InputError(
      `${list(
        files.map(({ name }) => name),
        "and",
      )}: must hold at least one row, found none`,
    );
  }
  return rows;
}

function whereOf(first: RowSource, other: RowSource): string {
  if (first.file !== other.file) return `in ${placeOf(first)}`;
  return first.unit === "row" ? `in row ${first.line}` : `on line ${first.line}`;
}

/** A row as a file holds it, not looked at yet. */
interface DataRecord {
  source: RowSource;
  /** @throws RowProblem */
  read: () => unknown;
}

async function* readRecords(files: readonly DataFile[], names: ColumnNames): AsyncGenerator<DataRecord> {
  for (const file of files) yield* readFileRecords(file, names);
}

async function* readFileRecords(file: DataFile, names: ColumnNames): AsyncGenerator<DataRecord> {
  const { name } = file;
  const found = formatOf(file.path);
  if (!found) {
    throw new InputError(`${name}: preference data must be in ${READ_FORMATS}; convert other formats to one of these`);
  }
  const { format, isGzip } = found;
  if (format === "parquet") {
    for await (const { row, values } of readParquetRecords(file, (available) => wantedColumns(available, names))) {
      yield { source: { file: name, line: row, unit: "row" }, read: () => values };
    }
  } else if (format === "csv" || format === "tsv") {
    const records = readCsvRecords(readChunks(file, isGzip), name, format === "csv" ? "," : "\t");
    for await (const { line, read } of records) yield { source: { file: name, line }, read };
  } else {
    for await (const { line, bytes } of splitJsonRecords(readChunks(file, isGzip), name, format)) {
      yield { source: { file: name, line }, read: () => parseRow(bytes) };
    }
  }
}
