import type { PairTokenizer } from "../data/tokenizer.ts";
import type { Generator } from "../model/generator.ts";
import { createSampler, type SamplingSettings } from "./sampler.ts";

/** What an answer needs of a model. */
export type LogitSource = Pick<Generator, "reset" | "append" | "length" | "maxPositions">;

export interface AnswerRequest {
  /** Emptied first. */
  readonly generator: LogitSource;
  readonly tokenizer: PairTokenizer;
  /** At least one, at most as many as the generator has positions. */
  readonly promptIds: readonly number[];
  readonly sampling: SamplingSettings;
  /** Tokens that end the answer. They count as tokens, but make no text. */
  readonly stopIds: ReadonlySet<number>;
  /** At least 1. */
  readonly maxNewTokens: number;
  /** Ends the answer after the token at hand. */
  readonly signal?: AbortSignal;
}

/** Why an answer ends: a stop token, its longest length, no position left in the cache, or the caller's signal. */
export type AnswerEnd = "stop_token" | "max_new_tokens" | "context" | "aborted";

export interface AnswerSummary {
  readonly promptTokens: number;
  /** Tokens chosen, a stop token included. */
  readonly newTokens: number;
  /** Time of the prompt, up to the logits of the first new token. */
  readonly promptMs: number;
  /** Time from there to the end. */
  readonly newMs: number;
  /** Of the new tokens after the first, which is the prompt's; null where there is none. */
  readonly tokensPerSecond: number | null;
  readonly end: AnswerEnd;
}

/**
 * Answers a prompt, yielding text as it comes: whole characters only, without special tokens.
 *
 * @throws NonFiniteError when the model computes a logit that is not finite, DeviceError when the device fails
 */
export async function* streamAnswer(request: AnswerRequest): AsyncGenerator<string, AnswerSummary, void> {
  const { generator, tokenizer, promptIds, sampling, stopIds, maxNewTokens, signal } = request;
  const sample = createSampler(sampling);
  const decoder = tokenizer.streamDecoder({ skipSpecialTokens: true });
  const startMs = performance.now();
  generator.reset();
  let logits = await generator.append(promptIds);
  const promptMs = performance.now() - startMs;

  const endAfter = (token: number, newTokens: number): AnswerEnd | null => {
    if (stopIds.has(token)) return "stop_token";
    if (newTokens === maxNewTokens) return "max_new_tokens";
    if (generator.length === generator.maxPositions) return "context";
    return signal?.aborted ? "aborted" : null;
  };
  for (let newTokens = 1; ; newTokens++) {
    const token = sample(logits);
    const end = endAfter(token, newTokens);
    const text = (end === "stop_token" ? "" : decoder.push(token)) + (end === null ? "" : decoder.end());
    if (text !== "") yield text;
    if (end !== null) {
      const newMs = performance.now() - startMs - promptMs;
      const tokensPerSecond = newTokens > 1 ? ((newTokens - 1) / newMs) * 1000 : null;
      return { promptTokens: promptIds.length, newTokens, promptMs, newMs, tokensPerSecond, end };
    }
    logits = await generator.append([token]);
  }
}

/** A whole answer at once. */
export async function completeAnswer(request: AnswerRequest): Promise<{ text: string; summary: AnswerSummary }> {
  const stream = streamAnswer(request);
  let text = "";
  for (;;) {
    const next = await stream.next();
    if (next.done) return { text, summary: next.value };
    text += next.value;
  }
}
