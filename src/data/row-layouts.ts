import { printable } from "../text.ts";
import { splitDialogues } from "./dialogue.ts";
import { splitSharedMessages, splitSharedText, startsWithMessages, type Triple } from "./extract-prompt.ts";
import type { RowSource } from "./problems.ts";
import { type Message, type RowColumns, RowProblem } from "./row-columns.ts";
import type { PreferenceRow, TextRow } from "./rows.ts";

/** The ways in which a row can be laid out, as messages name them. */
export const LAYOUTS = {
  text: "text in prompt, chosen and rejected",
  systemText: "text in system, prompt (or question), chosen and rejected",
  sharedText: "text in chosen and rejected, and no prompt",
  messages: "messages in prompt, chosen and rejected",
  conversations: "messages in prompt, and chosen and rejected that repeat them",
  promptedConversations: "a text prompt, and messages in chosen and rejected",
  sharedMessages: "messages in chosen and rejected, and no prompt",
} as const;
export type Layout = keyof typeof LAYOUTS;

/** A row's columns together with the layout they make up. */
export type LaidOut =
  | ({ layout: "text" } & Triple<string>)
  | ({ layout: "systemText"; system: string } & Triple<string>)
  | { layout: "sharedText"; chosen: string; rejected: string }
  | ({ layout: "messages" | "conversations"; system?: string } & Triple<Message[]>)
  | { layout: "promptedConversations"; system?: string; prompt: string; chosen: Message[]; rejected: Message[] }
  | { layout: "sharedMessages"; system?: string; chosen: Message[]; rejected: Message[] };

/** @throws RowProblem where the columns do not go together */
export function layOut({ prompt, chosen, rejected, system }: RowColumns): LaidOut {
  if (typeof chosen === "string" && typeof rejected === "string") {
    if (prompt === undefined) {
      if (system === undefined) return { layout: "sharedText", chosen, rejected };
      throw new RowProblem("a system column needs a prompt column beside text answers, found none");
    }
    if (typeof prompt !== "string") {
      throw new RowProblem("prompt must be text where chosen and rejected are, found messages");
    }
    if (system === undefined) return { layout: "text", prompt, chosen, rejected };
    return { layout: "systemText", system, prompt, chosen, rejected };
  }
  if (typeof chosen === "string" || typeof rejected === "string") {
    throw new RowProblem("chosen and rejected must both be text or both be messages, found one of each");
  }
  const answers = { chosen, rejected, ...(system === undefined ? {} : { system }) };
  if (prompt === undefined) return { layout: "sharedMessages", ...answers };
  if (typeof prompt === "string") return { layout: "promptedConversations", prompt, ...answers };
  const repeats = [chosen, rejected].filter((answer) => startsWithMessages(answer, prompt)).length;
  if (repeats === 1) {
    throw new RowProblem("chosen and rejected must both repeat the prompt's messages, or neither, found that one does");
  }
  return { layout: repeats === 2 ? "conversations" : "messages", prompt, ...answers };
}

/** @throws RowProblem where the row has no prompt or no answers */
export function toRow(columns: LaidOut, source: RowSource): PreferenceRow {
  switch (columns.layout) {
    case "text":
      return { kind: "text", prompt: columns.prompt, chosen: columns.chosen, rejected: columns.rejected, source };
    case "systemText": {
      const { prompt, chosen, rejected, system } = columns;
      return { kind: "text", prompt, chosen, rejected, source, ...(system.trim() === "" ? {} : { system }) };
    }
    case "sharedText":
      if (columns.chosen === "" || columns.rejected === "") {
        throw new RowProblem("chosen and rejected must not be empty where there is no prompt column");
      }
      return sharedText(columns.chosen, columns.rejected, source);
    case "messages": {
      const prompt = withSystem(columns.prompt, columns.system);
      return { kind: "messages", prompt, chosen: columns.chosen, rejected: columns.rejected, source };
    }
    case "conversations": {
      const chosen = columns.chosen.slice(columns.prompt.length);
      const rejected = columns.rejected.slice(columns.prompt.length);
      if (chosen.length === 0 || rejected.length === 0) {
        throw new RowProblem("chosen and rejected must hold an answer after the prompt's messages, found none");
      }
      return { kind: "messages", prompt: withSystem(columns.prompt, columns.system), chosen, rejected, source };
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
      return { kind: "messages", ...parts, prompt: withSystem(parts.prompt, columns.system), source };
    }
    default:
      return columns satisfies never;
  }
}

/** TRL's split of two texts. Texts of HH-RLHF's kind keep what they are as a conversation, for `prompt_template: chat`. */
function sharedText(chosen: string, rejected: string, source: RowSource): TextRow {
  const dialogue = splitDialogues(chosen, rejected);
  return { kind: "text", ...splitSharedText(chosen, rejected), source, ...(dialogue ? { dialogue } : {}) };
}

function withSystem(prompt: Message[], system: string | undefined): Message[] {
  if (system === undefined || system.trim() === "") return prompt;
  const [first] = prompt;
  if (first?.role !== "system") return [{ role: "system", content: system }, ...prompt];
  if (first.content.trim() === system.trim()) return prompt;
  throw new RowProblem("the text of the system column must be that of the prompt's system message, found two");
}

/** A text prompt beside conversations says nothing new; where it differs from them, the row is not what it seems. */
function checkPromptText(prompt: string, messages: readonly Message[]): void {
  if (messages.some(({ content }) => content.trim() === prompt.trim())) return;
  throw new RowProblem(
    `prompt must be one of the messages that chosen and rejected share, found the text "${printable(prompt, 40)}"`,
  );
}
