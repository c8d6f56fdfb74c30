import { printable } from "../text.ts";

/** One turn of a conversation. Other keys than these go to the chat template as they are. */
export interface Message {
  role: string;
  content: string;
  [key: string]: unknown;
}

/** The names that columns have in the data, where they differ from ours. */
export interface ColumnNames {
  readonly prompt?: string | undefined;
  readonly chosen?: string | undefined;
  readonly rejected?: string | undefined;
  readonly system?: string | undefined;
}

/** The columns of a row that count, each checked: text, or at least one message. */
export interface RowColumns {
  prompt: string | Message[] | undefined;
  chosen: string | Message[];
  rejected: string | Message[];
  /** The text of a column with the system message; "" where this row has none, undefined without such a column. */
  system: string | undefined;
}

/** What makes a row unusable; it is collected and reported with the row's place. */
export class RowProblem extends Error {}

/** A row without a column that must be there: if it is the first, the file is laid out in a way that we do not know. */
export class MissingColumn extends RowProblem {
  readonly row: Readonly<Record<string, unknown>>;

  constructor(message: string, row: Readonly<Record<string, unknown>>) {
    super(message);
    this.row = row;
  }
}

/** Columns that would change what the chat template writes. */
const NOT_SUPPORTED = ["tools", "chat_template_kwargs"];

/** The columns of a file that `rowColumns` looks at, none where chosen or rejected is not among them. */
export function wantedColumns(available: readonly string[], names: ColumnNames): string[] {
  const [chosen, rejected] = [names.chosen ?? "chosen", names.rejected ?? "rejected"];
  if (!available.includes(chosen) || !available.includes(rejected)) return [];
  const given = [names.prompt ?? "prompt", names.system ?? "system", chosen, rejected];
  const wanted = new Set([...given, ...PROMPT_LIKE, ...NOT_SUPPORTED]);
  return available.filter((name) => wanted.has(name));
}

/** What other data sets call the prompt. */
export const PROMPT_LIKE: readonly string[] = ["question", "instruction", "input", "query", "user_input"];

/**
 * The columns of a row: prompt, chosen and rejected, or as `names` has them. A row of Orca's kind has question and system
 * in place of prompt. Other columns are ignored.
 *
 * @throws RowProblem naming the field, what is required and what was found
 */
export function rowColumns(row: unknown, names: ColumnNames): RowColumns {
  if (typeof row !== "object" || row === null || Array.isArray(row)) {
    throw new RowProblem(`a row must be an object with prompt, chosen and rejected, found ${describe(row)}`);
  }
  const columns = row as Record<string, unknown>;
  const get = (name: string): unknown => (Object.hasOwn(columns, name) ? columns[name] : undefined);
  const required = (name: string): string | Message[] => {
    if (get(name) !== undefined) return checkColumn(name, get(name));
    throw new MissingColumn(`${shownName(name)} must be text or a list of messages, found nothing`, columns);
  };
  const chosen = required(names.chosen ?? "chosen");
  const rejected = required(names.rejected ?? "rejected");
  const isOrca = names.prompt === undefined && get("prompt") === undefined && isText(get("question"), get("system"));
  const promptName = names.prompt ?? (isOrca ? "question" : "prompt");
  const hasPrompt = names.prompt !== undefined || get(promptName) !== undefined;
  const prompt = hasPrompt ? required(promptName) : undefined;
  const systemName = names.system ?? (isOrca ? "system" : undefined);
  if (prompt === undefined && typeof chosen === "string") refuseUnusedQuestion(columns, chosen);
  if (Array.isArray(chosen)) {
    const present = NOT_SUPPORTED.find((name) => get(name) !== undefined && get(name) !== null);
    if (present !== undefined) {
      throw new RowProblem(
        `${present} is not supported: it would change what the chat template writes; remove the column`,
      );
    }
  }
  return { prompt, chosen, rejected, system: systemName && checkSystem(systemName, get(systemName)) };
}

/** Whether these are a question and a system message, of which the latter may be missing in a row. */
function isText(question: unknown, system: unknown): boolean {
  return typeof question === "string" && (typeof system === "string" || system === null);
}

function checkSystem(name: string, value: unknown): string {
  if (value === undefined || value === null) return "";
  if (typeof value === "string") return checkText(name, value);
  throw new RowProblem(`${shownName(name)} must be text, found ${describe(value)}`);
}

/** Without a prompt column the prompt is what both answers start with; a question beside them would be lost in silence. */
function refuseUnusedQuestion(columns: Readonly<Record<string, unknown>>, chosen: string): void {
  const name = PROMPT_LIKE.find((name) => Object.hasOwn(columns, name) && typeof columns[name] === "string");
  if (name === undefined) return;
  const question = (columns[name] as string).trim();
  if (question === "" || chosen.includes(question)) return;
  const system = typeof columns.system === "string" ? ", system: system" : "";
  throw new RowProblem(
    `there is no prompt column, and the answers do not hold the text of ${name}: if that is the prompt, set columns: {prompt: ${name}${system}}`,
  );
}

function shownName(name: string): string {
  return printable(name, 40);
}

/** A JSON text as a value. @throws RowProblem when it is not UTF-8 or not JSON */
export function parseRow(bytes: Uint8Array): unknown {
  return parseJson(decodeText(bytes));
}

function decodeText(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    const at = firstInvalidByte(bytes);
    const byte = bytes[at];
    throw new RowProblem(
      byte === undefined
        ? "must be UTF-8, found a character that is cut off at the end of the row"
        : `must be UTF-8, found 0x${byte.toString(16).padStart(2, "0")} at byte ${at + 1} of the row`,
    );
  }
}

/** The index of the first byte that cannot continue UTF-8 text; the length when the text is only cut off. */
function firstInvalidByte(bytes: Uint8Array): number {
  let valid = 0;
  let invalid = bytes.length + 1;
  while (invalid - valid > 1) {
    const middle = (valid + invalid) >>> 1;
    try {
      new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, middle), { stream: middle <= bytes.length });
      valid = middle;
    } catch {
      invalid = middle;
    }
  }
  return invalid - 1;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new RowProblem(`must be one JSON object, but is not JSON: ${printable((error as Error).message)}`);
  }
}

function checkColumn(column: string, value: unknown): string | Message[] {
  const name = shownName(column);
  if (typeof value === "string") return checkText(name, value);
  if (!Array.isArray(value))
    throw new RowProblem(`${name} must be text or a list of messages, found ${describe(value)}`);
  if (value.length === 0) throw new RowProblem(`${name} must hold at least one message, found an empty list`);
  value.forEach((message: unknown, i) => {
    if (typeof message !== "object" || message === null || Array.isArray(message)) {
      throw new RowProblem(`${name}[${i}] must be a message {role, content}, found ${describe(message)}`);
    }
    for (const key of ["role", "content"] as const) {
      const text = (message as Record<string, unknown>)[key];
      if (typeof text !== "string") throw new RowProblem(`${name}[${i}].${key} must be text, found ${describe(text)}`);
      checkText(`${name}[${i}].${key}`, text);
    }
  });
  return value as Message[];
}

function checkText(name: string, text: string): string {
  if (/\p{Surrogate}/u.test(text)) {
    throw new RowProblem(`${name} must be Unicode text, found half of a surrogate pair in it`);
  }
  return text;
}

/** A value in a few words, printable. */
export function describe(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value === null) return "null";
  if (typeof value === "string") return `the text "${printable(value, 40)}"`;
  if (value instanceof Uint8Array) return "bytes that are not UTF-8";
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : "a list";
  if (typeof value === "object") return `an object with ${printable(Object.keys(value).join(", ") || "no keys", 60)}`;
  return `${typeof value === "number" ? "the number " : ""}${String(value)}`;
}
