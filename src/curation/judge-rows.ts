import { readJsonRecords } from "../data/json-records.ts";
import { createRowProblems } from "../data/problems.ts";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { decodeUtf8 } from "../weights/strict-json.ts";

/** A prompt and at least two different answers to it. */
export interface JudgeRow {
  readonly prompt: string;
  /** Where the row says which is better, the chosen one is the first. */
  readonly answers: readonly string[];
  readonly isLabelled: boolean;
  readonly line: number;
}

export interface JudgeInput {
  readonly rows: readonly JudgeRow[];
  /** Rows that are in the file before. */
  readonly duplicates: number;
  /** Rows whose answers are all the same: there is nothing to judge. */
  readonly equalAnswers: number;
}

/**
 * Reads rows to be judged from a `.jsonl` or `.json` file: `{prompt, chosen, rejected}`, `{prompt, answers: […]}` or
 * `{instruction, answer_a, answer_b}`, the first column under either name. Other columns are ignored.
 *
 * @throws InputError naming by file and line the rows that are none of these, and where there is no row
 */
export async function readJudgeRows(file: string): Promise<JudgeInput> {
  const name = printable(file);
  const problems = createRowProblems();
  const rows: JudgeRow[] = [];
  const seen = new Set<string>();
  let duplicates = 0;
  let equalAnswers = 0;
  for await (const { line, bytes } of readJsonRecords(file)) {
    const place = `${name}:${line}`;
    const row = parseRow(decodeUtf8(bytes, place));
    if (typeof row === "string") {
      problems.add({ file: name, line }, row);
      continue;
    }
    const answers = [...new Set(row.answers)];
    const key = JSON.stringify([row.prompt, answers]);
    if (answers.length < 2) equalAnswers++;
    else if (seen.has(key)) duplicates++;
    else rows.push({ ...row, answers, line });
    seen.add(key);
  }
  problems.throwIfAny();
  if (rows.length === 0)
    throw new InputError(`${name}: must hold at least one row with two different answers, found none`);
  return { rows, duplicates, equalAnswers };
}

const LAYOUTS = "{prompt, chosen, rejected}, {prompt, answers: [...]} or {instruction, answer_a, answer_b}";

/** The row, or what is wrong with it. */
function parseRow(text: string): Omit<JudgeRow, "line"> | string {
  const row = parseObject(text);
  if (row === null) return `must be a JSON object: ${LAYOUTS}`;
  const prompt = row.prompt ?? row.instruction;
  if (typeof prompt !== "string" || prompt.trim() === "") return "prompt or instruction must be text";
  const isLabelled = row.chosen !== undefined || row.rejected !== undefined;
  const answers = isLabelled ? [row.chosen, row.rejected] : (row.answers ?? [row.answer_a, row.answer_b]);
  if (!Array.isArray(answers) || answers.length < 2 || !answers.every(isText)) {
    return `must be one of ${LAYOUTS} with at least two answers of text, found ${describe(row)}`;
  }
  return { prompt, answers, isLabelled };
}

/** An example of a verdict, shown to every judge before its question. */
export interface JudgeExample {
  readonly instruction: string;
  readonly answerA: string;
  readonly answerB: string;
  readonly reasoning: string;
  readonly best: "A" | "B";
}

/** Reads `{instruction, answer_a, answer_b, reasoning, best_answer}` rows. @throws InputError naming the line */
export async function readExamples(file: string): Promise<JudgeExample[]> {
  const examples: JudgeExample[] = [];
  for await (const { line, bytes } of readJsonRecords(file)) {
    const place = `${printable(file)}:${line}`;
    const row = parseObject(decodeUtf8(bytes, place)) ?? {};
    const { answer_a: answerA, answer_b: answerB, reasoning, best_answer: best } = row;
    const instruction = row.instruction ?? row.prompt;
    const isWhole = isText(instruction) && isText(answerA) && isText(answerB) && isText(reasoning);
    if (!isWhole || (best !== "A" && best !== "B")) {
      throw new InputError(
        `${place}: an example must be {instruction, answer_a, answer_b, reasoning, best_answer}, texts, the last "A" or "B", found ${describe(row)}`,
      );
    }
    examples.push({ instruction, answerA, answerB, reasoning, best });
  }
  return examples;
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null;
  } catch {
    return null;
  }
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value.trim() !== "";
}

function describe(row: Record<string, unknown>): string {
  return printable(JSON.stringify(row), 120);
}
