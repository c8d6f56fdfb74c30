import type { PromptTemplate } from "../config/names.ts";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import type { ChatTemplate } from "./chat-template.ts";
import { createRowProblems, placeOf, type RowSource } from "./problems.ts";
import { RowProblem } from "./row-columns.ts";
import type { MessagesRow, PreferenceRow, TextRow } from "./rows.ts";
import { applyPromptTemplate, fillTemplate } from "./templates.ts";
import type { PairTokenizer } from "./tokenizer.ts";

/** A preference pair in tokens, cut to the longest length. All three parts hold at least one token. */
export interface TokenizedPair {
  promptIds: Uint32Array;
  chosenIds: Uint32Array;
  rejectedIds: Uint32Array;
  /** Tokens cut from the end of chosen; 0 when it is whole. */
  chosenCut: number;
  rejectedCut: number;
  /** The prompt's tokens are not the first tokens of prompt and answer encoded together. */
  mergesAcrossBoundary: boolean;
  /** Written by a chat template, which ends every message with a token of its own. */
  isConversation: boolean;
  source: RowSource;
}

/** A row that is left out because its prompt alone fills the longest length. */
export interface DroppedRow {
  source: RowSource;
  promptTokens: number;
}

export interface TokenizedRows {
  pairs: TokenizedPair[];
  dropped: DroppedRow[];
}

export interface TokenizeOptions {
  promptTemplate: PromptTemplate;
  /** Longest prompt with one answer, in tokens. Longer answers lose their end. */
  maxLength: number;
}

/**
 * Tokenizes rows exactly as TRL's DPOTrainer does (`_prepare_dataset` with truncation_mode keep_start).
 *
 * Text: the EOS is appended to an answer that does not end with it; prompt, prompt + chosen and prompt + rejected are
 * encoded with special tokens. Messages: all three through the chat template, the generation prompt after the prompt
 * only, encoded without special tokens, since the template writes them. An answer's tokens are those after the first
 * promptIds.length of prompt and answer together.
 *
 * @throws InputError naming by file and line the rows that cannot be used, or when no row is left
 */
export function tokenizeRows(
  rows: readonly PreferenceRow[],
  tokenizer: PairTokenizer,
  { promptTemplate, maxLength }: TokenizeOptions,
): TokenizedRows {
  const problems = createRowProblems();
  const pairs: TokenizedPair[] = [];
  const dropped: DroppedRow[] = [];
  for (const row of rows) {
    try {
      const templated = applyPromptTemplate(row, promptTemplate);
      const isConversation = templated.kind === "messages";
      const encoded = isConversation ? encodeMessages(templated, tokenizer) : encodeText(templated, tokenizer);
      checkNotEmpty(encoded);
      const { source } = row;
      if (encoded.prompt.length < maxLength) pairs.push({ ...cutToLength(encoded, maxLength), isConversation, source });
      else dropped.push({ source, promptTokens: encoded.prompt.length });
    } catch (error) {
      if (!(error instanceof RowProblem)) throw error;
      problems.add(row.source, error.message);
    }
  }
  problems.throwIfAny();
  const [first] = dropped;
  if (pairs.length === 0 && first) {
    throw new InputError(
      `${first.source.file}: no row is left: the prompt alone of each fills max_length ${maxLength} ` +
        `(${placeOf(first.source)}: ${first.promptTokens} tokens); raise max_length`,
    );
  }
  return { pairs, dropped };
}

/**
 * The tokens of a single prompt, as the prompt of a text row is encoded: what a model trained with `promptTemplate` is to
 * be asked with.
 *
 * @throws InputError when the template is the model's chat template and it has none
 */
export function encodePrompt(prompt: string, tokenizer: PairTokenizer, promptTemplate: PromptTemplate): number[] {
  if (promptTemplate !== "chat") return tokenizer.encode(fillTemplate(promptTemplate, prompt), true);
  const template = requireChatTemplate(tokenizer, "the prompt");
  return tokenizer.encode(template.render([{ role: "user", content: prompt }], true), false);
}

function requireChatTemplate({ chatTemplate }: PairTokenizer, place: string): ChatTemplate {
  if (chatTemplate) return chatTemplate;
  throw new InputError(
    `${place}: messages and prompt_template: chat need a model with a chat template, and this one has none; add ` +
      "chat_template.jinja to its folder, or use text with prompt_template: alpaca or none",
  );
}

/** Token ids of the prompt and of the prompt with each answer. */
interface EncodedRow {
  prompt: number[];
  promptChosen: number[];
  promptRejected: number[];
}

function encodeText({ prompt, chosen, rejected }: TextRow, tokenizer: PairTokenizer): EncodedRow {
  const withEos = (answer: string): string =>
    answer.endsWith(tokenizer.eos.text) ? answer : answer + tokenizer.eos.text;
  return {
    prompt: tokenizer.encode(prompt, true),
    promptChosen: tokenizer.encode(prompt + withEos(chosen), true),
    promptRejected: tokenizer.encode(prompt + withEos(rejected), true),
  };
}

function encodeMessages({ prompt, chosen, rejected, source }: MessagesRow, tokenizer: PairTokenizer): EncodedRow {
  const template = requireChatTemplate(tokenizer, source.file);
  try {
    return {
      prompt: tokenizer.encode(template.render(prompt, true), false),
      promptChosen: tokenizer.encode(template.render([...prompt, ...chosen], false), false),
      promptRejected: tokenizer.encode(template.render([...prompt, ...rejected], false), false),
    };
  } catch (error) {
    throw new RowProblem(`the chat template refuses the messages: ${printable((error as Error).message)}`);
  }
}

function checkNotEmpty({ prompt, promptChosen, promptRejected }: EncodedRow): void {
  if (prompt.length === 0) {
    throw new RowProblem(
      "prompt must make at least one token, found none: nothing would predict the first token of the answers",
    );
  }
  for (const [name, ids] of [
    ["chosen", promptChosen],
    ["rejected", promptRejected],
  ] as const) {
    if (ids.length <= prompt.length) {
      throw new RowProblem(`${name} must make at least one token after the prompt's ${prompt.length}, found none`);
    }
  }
}

function cutToLength({ prompt, promptChosen, promptRejected }: EncodedRow, maxLength: number) {
  const startsWithPrompt = (ids: readonly number[]): boolean => prompt.every((id, i) => id === ids[i]);
  return {
    promptIds: Uint32Array.from(prompt),
    chosenIds: Uint32Array.from(promptChosen.slice(prompt.length, maxLength)),
    rejectedIds: Uint32Array.from(promptRejected.slice(prompt.length, maxLength)),
    chosenCut: Math.max(0, promptChosen.length - maxLength),
    rejectedCut: Math.max(0, promptRejected.length - maxLength),
    mergesAcrossBoundary: !startsWithPrompt(promptChosen) || !startsWithPrompt(promptRejected),
  };
}
