import type { PromptTemplate } from "../config/names.ts";
import type { Message } from "../data/row-columns.ts";
import { fillTemplate } from "../data/templates.ts";
import type { PairTokenizer } from "../data/tokenizer.ts";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";

export interface ConversationOptions {
  readonly tokenizer: PairTokenizer;
  readonly promptTemplate: PromptTemplate;
  /** Tokens that prompt and answer may have together. */
  readonly maxPositions: number;
  /** Longest answer, for which room is kept: of so many tokens, or half of all. */
  readonly maxNewTokens: number;
}

/**
 * The tokens of a conversation that ends with a user's message, for a model to answer: by the model's chat template, or
 * each turn in the text template, one after the other. Where it is too long, its oldest turns are left out.
 *
 * @returns the tokens, and how many messages were left out
 * @throws InputError when the chat template refuses it, or the last message alone leaves no room for an answer
 */
export function encodeConversation(
  messages: readonly Message[],
  { tokenizer, promptTemplate, maxPositions, maxNewTokens }: ConversationOptions,
): { readonly ids: readonly number[]; readonly leftOut: number } {
  const mostTokens = maxPositions - Math.min(maxNewTokens, Math.floor(maxPositions / 2));
  // A turn is a question and its answer.
  for (let leftOut = 0; ; leftOut += 2) {
    const ids = encode(messages.slice(leftOut), tokenizer, promptTemplate);
    if (ids.length > 0 && ids.length <= mostTokens) return { ids, leftOut };
    if (leftOut + 2 < messages.length) continue;
    throw new InputError(
      ids.length === 0
        ? "a message must make at least one token, found none"
        : `a message must make at most ${mostTokens} tokens, to leave room for an answer, found ${ids.length}; shorten it`,
    );
  }
}

function encode(messages: readonly Message[], tokenizer: PairTokenizer, promptTemplate: PromptTemplate): number[] {
  if (promptTemplate !== "chat") {
    const turns = messages.map(({ role, content }) =>
      role === "user" ? fillTemplate(promptTemplate, content) : `${content}\n\n`,
    );
    return tokenizer.encode(turns.join(""), true);
  }
  if (!tokenizer.chatTemplate) {
    throw new InputError("--prompt-template chat needs a model with a chat template, and this one has none");
  }
  try {
    return tokenizer.encode(tokenizer.chatTemplate.render(messages, true), false);
  } catch (error) {
    const reason = printable((error as Error).message);
    throw new InputError(`the chat template refuses the conversation: ${reason}`, { cause: error });
  }
}
