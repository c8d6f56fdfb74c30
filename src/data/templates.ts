import type { PromptTemplate } from "../config/names.ts";
import { RowProblem } from "./row-columns.ts";
import type { MessagesRow, PreferenceRow, TextRow } from "./rows.ts";

/** What is put around a text prompt; `{}` stands for the prompt. */
const PROMPT_TEXTS: Record<Exclude<PromptTemplate, "chat">, string> = {
  alpaca:
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n" +
    "### Instruction:\n{}\n\n### Response:\n",
  none: "{}",
};

/** A prompt put into a text template. The prompt is taken as it is, also where it holds `{}`. */
export function fillTemplate(template: Exclude<PromptTemplate, "chat">, prompt: string): string {
  return PROMPT_TEXTS[template].split("{}").join(prompt);
}

/**
 * A row as the tokenizer takes it: text with the template around the prompt, or messages for the model's chat template,
 * to which `chat` turns a text row: the prompt one user message, each answer one assistant message.
 *
 * @throws RowProblem for a row of messages with a template that applies to text only
 */
export function applyPromptTemplate(row: PreferenceRow, template: PromptTemplate): PreferenceRow {
  if (row.kind === "messages") {
    if (template === "alpaca") {
      throw new RowProblem(
        "prompt_template: alpaca needs text, found messages; use prompt_template: chat, which is made for them",
      );
    }
    return row;
  }
  return template === "chat" ? toMessages(row) : { ...row, prompt: fillTemplate(template, row.prompt) };
}

function toMessages({ prompt, chosen, rejected, source }: TextRow): MessagesRow {
  return {
    kind: "messages",
    prompt: [{ role: "user", content: prompt }],
    chosen: [{ role: "assistant", content: chosen }],
    rejected: [{ role: "assistant", content: rejected }],
    source,
  };
}
