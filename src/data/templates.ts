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
 * to which `chat` turns a text row: a dialogue its turns; else the prompt one user message after the system message, each
 * answer one assistant message. In a text template the system message stands before the prompt, with an empty line between.
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
  if (template === "chat") return toMessages(row);
  const { prompt, chosen, rejected, source, system } = row;
  const instruction = system === undefined ? prompt : `${system}\n\n${prompt}`;
  return { kind: "text", prompt: fillTemplate(template, instruction), chosen, rejected, source };
}

function toMessages({ prompt, chosen, rejected, source, system, dialogue }: TextRow): MessagesRow {
  if (dialogue) return { kind: "messages", ...dialogue, source };
  return {
    kind: "messages",
    prompt: [...(system === undefined ? [] : [{ role: "system", content: system }]), { role: "user", content: prompt }],
    chosen: [{ role: "assistant", content: chosen }],
    rejected: [{ role: "assistant", content: rejected }],
    source,
  };
}
