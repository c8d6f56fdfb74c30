import type { PromptTemplate } from "../config/names.ts";
import { encodePrompt } from "../data/tokenize.ts";
import type { PairTokenizer } from "../data/tokenizer.ts";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";

export interface QuestionOptions {
  readonly tokenizer: PairTokenizer;
  readonly config: LlamaConfig;
  readonly promptTemplate: PromptTemplate;
  /** Where the prompt comes from, as messages begin: `--prompt`, `sample_prompt`. */
  readonly place: string;
}

/**
 * The tokens of a prompt, put into its template, for a model to answer.
 *
 * @throws InputError when it makes no token, more than the model's context holds or one that the model does not know, and
 *   when the chat template is missing or refuses it
 */
export function encodeQuestion(
  prompt: string,
  { tokenizer, config, promptTemplate, place }: QuestionOptions,
): number[] {
  let ids: number[];
  try {
    ids = encodePrompt(prompt, tokenizer, promptTemplate);
  } catch (error) {
    if (promptTemplate !== "chat" || error instanceof InputError) throw error;
    const reason = printable((error as Error).message);
    throw new InputError(`${place}: the chat template refuses the prompt: ${reason}`, { cause: error });
  }
  if (ids.length === 0) throw new InputError(`${place}: must make at least one token, found none`);
  const { maxPositionEmbeddings: context, vocabSize } = config;
  if (ids.length > context) {
    throw new InputError(
      `${place}: must make at most ${context} tokens, the model's context (max_position_embeddings), found ${ids.length}; shorten it`,
    );
  }
  const unknown = ids.find((id) => id >= vocabSize);
  if (unknown !== undefined) {
    throw new InputError(
      `${place}: the tokenizer gives token ${unknown}, but the model's vocab_size is ${vocabSize}: tokenizer and model do not belong together`,
    );
  }
  return ids;
}

/** Positions that a cache needs for a prompt and its longest answer, whose last token is never read again. */
export function positionsFor(
  promptTokens: number,
  maxNewTokens: number,
  { maxPositionEmbeddings }: LlamaConfig,
): number {
  return Math.min(promptTokens + maxNewTokens - 1, maxPositionEmbeddings);
}
