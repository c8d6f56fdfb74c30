import { formatOf } from "../data/data-file.ts";
import { readJsonRecords } from "../data/json-records.ts";
import { createRowProblems, type RowSource } from "../data/problems.ts";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { readTextFile } from "../weights/regular-file.ts";

/** A question as a file has it. */
export interface QuestionText {
  readonly text: string;
  readonly source: RowSource;
}

/** The names that a question goes by, the first that a row has counts. */
const QUESTION_KEYS = ["prompt", "instruction", "question"] as const;
const MAX_TEXT_BYTES = 64 * 2 ** 20;

/**
 * Reads questions: the rows of a `.jsonl` or `.json` file, each a text or an object with a text in `prompt`, `instruction`
 * or `question`; of any other file the lines that are not blank.
 *
 * @throws InputError when the file cannot be read or holds no question, or naming by line the rows that are none
 */
export async function readQuestions(file: string): Promise<QuestionText[]> {
  const name = printable(file);
  const problems = createRowProblems();
  const questions: QuestionText[] = [];
  for await (const { line, value } of readValues(file)) {
    const source = { file: name, line };
    const found = questionOf(value);
    if ("problem" in found) problems.add(source, found.problem);
    else questions.push({ text: found.text, source });
  }
  problems.throwIfAny();
  if (questions.length === 0) throw new InputError(`${name}: must hold at least one question, found none`);
  return questions;
}

interface FoundValue {
  readonly line: number;
  /** Undefined where a row is no JSON. */
  readonly value: unknown;
}

function readValues(file: string): AsyncGenerator<FoundValue> {
  const format = formatOf(file)?.format;
  if (format === undefined) return readLines(file);
  if (format === "json" || format === "jsonl") return readRows(file);
  throw new InputError(
    `${printable(file)}: questions must be in a .jsonl or .json file, or in a text file with one a line; convert this one`,
  );
}

async function* readRows(file: string): AsyncGenerator<FoundValue> {
  for await (const { line, bytes } of readJsonRecords(file)) yield { line, value: parse(bytes) };
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

async function* readLines(file: string): AsyncGenerator<FoundValue> {
  const text = await readTextFile(file, MAX_TEXT_BYTES);
  if (text.startsWith("\ufeff")) {
    throw new InputError(`${printable(file)}: must be UTF-8 without a byte order mark, found one; save it without`);
  }
  for (const [i, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() !== "") yield { line: i + 1, value: line };
  }
}

function questionOf(row: unknown): { readonly text: string } | { readonly problem: string } {
  if (row === undefined) return { problem: "must be JSON in UTF-8, and is not" };
  if (typeof row === "string") return checkText("a question", row);
  if (typeof row !== "object" || row === null || Array.isArray(row)) {
    return { problem: `must be a text, or an object with ${QUESTION_KEYS.join(", ")}` };
  }
  const columns = row as Record<string, unknown>;
  const key = QUESTION_KEYS.find((name) => Object.hasOwn(columns, name));
  if (key === undefined) {
    const found = printable(Object.keys(columns).join(", ") || "no keys", 80);
    return { problem: `must have ${QUESTION_KEYS.join(", ")}, found ${found}` };
  }
  const text = columns[key];
  if (typeof text !== "string") return { problem: `${key} must be text; conversations are asked from eval_dataset` };
  // Alpaca's rows: what the model was to work on would be left out.
  if (key === "instruction" && typeof columns.input === "string" && columns.input.trim() !== "") {
    return { problem: "input is not put into the prompt: write it into instruction" };
  }
  return checkText(key, text);
}

function checkText(name: string, text: string): { readonly text: string } | { readonly problem: string } {
  if (text.trim() === "") return { problem: `${name} must not be empty` };
  if (/\p{Surrogate}/u.test(text)) return { problem: `${name} must be Unicode text, found half of a surrogate pair` };
  return { text };
}
