import type { PromptTemplate } from "../config/names.ts";
import { placeOf } from "../data/problems.ts";
import type { Message } from "../data/row-columns.ts";
import type { PreferenceRow } from "../data/rows.ts";
import type { TokenizedPair } from "../data/tokenize.ts";
import type { PairTokenizer } from "../data/tokenizer.ts";
import { InputError } from "../errors.ts";
import { encodeQuestion } from "../generate/question.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";
import type { QuestionText } from "./questions.ts";

/** What both models are asked. */
export interface Question {
  /** The prompt as people read it. */
  readonly text: string;
  /** The prompt in its template. */
  readonly promptIds: readonly number[];
  /** The answer that was preferred, where the question comes from a pair. */
  readonly chosen: string | null;
}

/**
 * The prompts of held-out pairs, each once.
 *
 * @param pairs those of `rows` that were not dropped, with the same `source` objects
 * @throws InputError where one is longer than the model's context
 */
export function questionsOfPairs(
  rows: readonly PreferenceRow[],
  pairs: readonly TokenizedPair[],
  { maxPositionEmbeddings: context }: LlamaConfig,
): Question[] {
  const rowOf = new Map(rows.map((row) => [row.source, row]));
  const questions = new Map<string, Question>();
  for (const { promptIds, source } of pairs) {
    if (promptIds.length > context) {
      throw new InputError(
        `${placeOf(source)}: prompt makes ${promptIds.length} tokens, more than the ${context} of the model's context (max_position_embeddings); shorten it`,
      );
    }
    const key = promptIds.join(" ");
    const row = rowOf.get(source)!;
    if (!questions.has(key))
      questions.set(key, { text: promptText(row), promptIds: [...promptIds], chosen: chosenText(row) });
  }
  return [...questions.values()];
}

/** Questions of a file as a model takes them, each once. @throws InputError naming the line of one that does not fit */
export function encodeQuestions(
  texts: readonly QuestionText[],
  options: { readonly tokenizer: PairTokenizer; readonly config: LlamaConfig; readonly promptTemplate: PromptTemplate },
): Question[] {
  const seen = new Set<string>();
  const distinct = texts.filter(({ text }) => !seen.has(text) && seen.add(text));
  return distinct.map(({ text, source }) => ({
    text,
    promptIds: encodeQuestion(text, { ...options, place: placeOf(source) }),
    chosen: null,
  }));
}

function promptText(row: PreferenceRow): string {
  if (row.kind === "text") return row.prompt;
  const [only] = row.prompt;
  if (row.prompt.length === 1 && only) return only.content;
  return row.prompt.map(({ role, content }) => `${role}: ${content}`).join("\n\n");
}

/** A row's preferred answer as people read it. */
export function chosenText(row: PreferenceRow): string {
  return row.kind === "text" ? row.chosen : contents(row.chosen);
}

function contents(messages: readonly Message[]): string {
  return messages.map(({ content }) => content).join("\n\n");
}
