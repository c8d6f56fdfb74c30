import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { splitSharedMessages, splitSharedText, startsWithMessages, type Triple } from "./extract-prompt.ts";
import { createRowProblems, type RowSource } from "./problems.ts";
import { readJsonRecords } from "./records.ts";
import { type Message, parseRowColumns, type RowColumns, RowProblem } from "./row-columns.ts";

/** A preference pair as text, before any template. */
export interface TextRow extends Triple<string> {
  kind: "text";
  source: RowSource;
}

/** A preference pair as messages: the prompt's, and those of each answer without the prompt's. */
export interface MessagesRow extends Triple<Message[]> {
  kind: "messages";
  source: RowSource;
}

export type PreferenceRow = TextRow | MessagesRow;

/**
 * Reads preference rows from a `.jsonl` or `.json` file. All rows of a file are laid out alike, in one of these ways:
 * text prompt, chosen and rejected; messages in all three, the answers with or without the prompt in front; a text
 * prompt beside whole conversations in chosen and rejected; chosen and rejected alone, text or conversations, where the
 * prompt is what both start with (TRL's `extract_prompt`). Other columns are ignored.
 *
 * @param maxRows stop after this many rows
 * @throws InputError when the file cannot be read or holds no row, or naming by file, line and field the rows that
 *   cannot be used (the first 20, and how many there are)
 */
export async function readPreferenceRows(file: string, maxRows = Number.POSITIVE_INFINITY): Promise<PreferenceRow[]> {
  const name = printable(file);
  const problems = createRowProblems();
  const rows: PreferenceRow[] = [];
  let firstLayout: { layout: Layout; line: number } | undefined;
  for await (const { line, bytes } of readJsonRecords(file)) {
    if (rows.length + problems.count >= maxRows) break;
    const source = { file: name, line };
    try {
      const columns = layOut(parseRowColumns(bytes));
      firstLayout ??= { layout: columns.layout, line };
      if (columns.layout !== firstLayout.layout) {
        const expected = `${LAYOUTS[firstLayout.layout]} (as on line ${firstLayout.line})`;
        throw new RowProblem(
          `all rows of a file must be laid out alike: ${expected}, found ${LAYOUTS[columns.layout]}`,
        );
      }
      rows.push(toRow(columns, source));
    } catch (error) {
      if (!(error instanceof RowProblem)) throw error;
      problems.add(source, error.message);
    }
  }
  problems.throwIfAny();
  if (rows.length === 0) throw new InputError(`${name}: must hold at least one row, found none`);
  return rows;
}

/** The ways in which a row can be laid out, as messages name them. */
const LAYOUTS = {
  text: "text in prompt, chosen and rejected",
  sharedText: "text in chosen and rejected, and no prompt",
  messages: "messages in prompt, chosen and rejected",
  conversations: "messages in prompt, and chosen and rejected that repeat them",
  promptedConversations: "a text prompt, and messages in chosen and rejected",
  sharedMessages: "messages in chosen and rejected, and no prompt",
};
type Layout = keyof typeof LAYOUTS;

/** A row's columns together with the layout they make up. */
type LaidOut =
  | ({ layout: "text" } & Triple<string>)
  | { layout: "sharedText"; chosen: string; rejected: string }
  | ({ layout: "messages" | "conversations" } & Triple<Message[]>)
  | { layout: "promptedConversations"; prompt: string; chosen: Message[]; rejected: Message[] }
  | { layout: "sharedMessages"; chosen: Message[]; rejected: Message[] };

function layOut({ prompt, chosen, rejected }: RowColumns): LaidOut {
  if (typeof chosen === "string" && typeof rejected === "string") {
    if (prompt === undefined) return { layout: "sharedText", chosen, rejected };
    if (typeof prompt === "string") return { layout: "text", prompt, chosen, rejected };
    throw new RowProblem("prompt must be text where chosen and rejected are, found messages");
  }
  if (typeof chosen === "string" || typeof rejected === "string") {
    throw new RowProblem("chosen and rejected must both be text or both be messages, found one of each");
  }
  if (prompt === undefined) return { layout: "sharedMessages", chosen, rejected };
  if (typeof prompt === "string") return { layout: "promptedConversations", prompt, chosen, rejected };
  const repeats = [chosen, rejected].filter((answer) => startsWithMessages(answer, prompt)).length;
  if (repeats === 1) {
    throw new RowProblem("chosen and rejected must both repeat the prompt's messages, or neither, found that one does");
  }
  return { layout: repeats === 2 ? "conversations" : "messages", prompt, chosen, rejected };
}

function toRow(columns: LaidOut, source: RowSource): PreferenceRow {
  switch (columns.layout) {
    case "text":
      return { kind: "text", prompt: columns.prompt, chosen: columns.chosen, rejected: columns.rejected, source };
    case "sharedText":
      if (columns.chosen === "" || columns.rejected === "") {
        throw new RowProblem("chosen and rejected must not be empty where there is no prompt column");
      }
      return { kind: "text", ...splitSharedText(columns.chosen, columns.rejected), source };
    case "messages":
      return { kind: "messages", prompt: columns.prompt, chosen: columns.chosen, rejected: columns.rejected, source };
    case "conversations": {
      const chosen = columns.chosen.slice(columns.prompt.length);
      const rejected = columns.rejected.slice(columns.prompt.length);
      if (chosen.length === 0 || rejected.length === 0) {
        throw new RowProblem("chosen and rejected must hold an answer after the prompt's messages, found none");
      }
      return { kind: "messages", prompt: columns.prompt, chosen, rejected, source };
    }
    case "promptedConversations":
    case "sharedMessages": {
      const parts = splitSharedMessages(columns.chosen, columns.rejected);
      if (parts.prompt.length === 0) {
        throw new RowProblem(
          "chosen and rejected must start with the same message, which is the prompt; found different ones",
        );
      }
      if (columns.layout === "promptedConversations") checkPromptText(columns.prompt, parts.prompt);
      return { kind: "messages", ...parts, source };
    }
    default:
      return columns satisfies never;
  }
}

/** A text prompt beside conversations says nothing new; where it differs from them, the row is not what it seems. */
function checkPromptText(prompt: string, messages: readonly Message[]): void {
  if (messages.some(({ content }) => content.trim() === prompt.trim())) return;
  throw new RowProblem(
    `prompt must be one of the messages that chosen and rejected share, found the text "${printable(prompt, 40)}"`,
  );
}
