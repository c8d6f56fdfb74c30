import { printable } from "../text.ts";

/** One turn of a conversation. Other keys than these go to the chat template as they are. */
export interface Message {
  role: string;
  content: string;
  [key: string]: unknown;
}

/** The columns of a row that count, each checked: text, or at least one message. */
export interface RowColumns {
  prompt: string | Message[] | undefined;
  chosen: string | Message[];
  rejected: string | Message[];
}

/** What makes a row unusable; it is collected and reported with the row's place. */
export class RowProblem extends Error {}

/**
 * The columns of a JSON row. Other columns than prompt, chosen and rejected are ignored.
 *
 * @throws RowProblem naming the field, what is required and what was found
 */
export function parseRowColumns(bytes: Uint8Array): RowColumns {
  const row = parseJson(decodeText(bytes));
  if (typeof row !== "object" || row === null || Array.isArray(row)) {
    throw new RowProblem(`a row must be an object with prompt, chosen and rejected, found ${describe(row)}`);
  }
  const columns = row as Record<string, unknown>;
  const chosen = checkColumn("chosen", columns.chosen);
  const rejected = checkColumn("rejected", columns.rejected);
  const prompt = columns.prompt === undefined ? undefined : checkColumn("prompt", columns.prompt);
  if (Array.isArray(chosen)) {
    for (const name of ["tools", "chat_template_kwargs"]) {
      if (columns[name] !== undefined && columns[name] !== null) {
        throw new RowProblem(
          `${name} is not supported: it would change what the chat template writes; remove the column`,
        );
      }
    }
  }
  return { prompt, chosen, rejected };
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

function checkColumn(name: string, value: unknown): string | Message[] {
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

function describe(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value === null) return "null";
  if (typeof value === "string") return `the text "${printable(value, 40)}"`;
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : "a list";
  if (typeof value === "object") return `an object with ${printable(Object.keys(value).join(", ") || "no keys", 60)}`;
  return `${typeof value === "number" ? "the number " : ""}${String(value)}`;
}
