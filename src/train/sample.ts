import type { Config } from "../config/schema.ts";
import type { PairTokenizer } from "../data/tokenizer.ts";
import { completeAnswer } from "../generate/answer.ts";
import { encodeQuestion, positionsFor } from "../generate/question.ts";
import type { SamplingSettings } from "../generate/sampler.ts";
import type { Gpu } from "../gpu/gpu.ts";
import type { BaseWeights } from "../model/base-weights.ts";
import { Generator } from "../model/generator.ts";
import type { LoraBuffers } from "../model/lora.ts";
import type { Terminal } from "../terminal.ts";
import { printable, printableLines } from "../text.ts";
import { readEosTokenIds } from "../weights/generation-config.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import type { SharedBase } from "./session.ts";

/** `sample_prompt`, which the model answers before and after training. */
export interface SampleQuestion {
  readonly prompt: string;
  readonly promptIds: readonly number[];
  readonly stopIds: ReadonlySet<number>;
  readonly maxNewTokens: number;
  readonly sampling: SamplingSettings;
}

/** @throws InputError where the prompt does not fit the model */
export async function prepareQuestion(
  config: Config,
  tokenizer: PairTokenizer,
  folder: ModelFolder,
): Promise<SampleQuestion | null> {
  const prompt = config.sample_prompt;
  if (prompt === undefined) return null;
  return {
    prompt,
    promptIds: encodeQuestion(prompt, {
      tokenizer,
      config: folder.config,
      promptTemplate: config.prompt_template,
      place: "sample_prompt",
    }),
    stopIds: new Set([...(await readEosTokenIds(folder.path, folder.config)), tokenizer.eos.id]),
    maxNewTokens: config.sample_max_new_tokens,
    sampling: { temperature: config.sample_temperature, topK: 0, topP: 1, seed: config.seed },
  };
}

export interface SampleAnswer {
  readonly text: string;
  /** Whether it stops before its end, for its length. */
  readonly isCut: boolean;
}

/** The answer of the adapted model, or of the base alone where `adapter` is null. Throws the signal's reason. */
async function answerSample(
  gpu: Gpu,
  weights: BaseWeights,
  adapter: LoraBuffers | null,
  tokenizer: PairTokenizer,
  question: SampleQuestion,
  signal: AbortSignal,
): Promise<SampleAnswer> {
  const { promptIds, maxNewTokens } = question;
  const maxPositions = positionsFor(promptIds.length, maxNewTokens, weights.config);
  const generator = new Generator({ gpu, weights, adapter, maxPositions });
  try {
    const { text, summary } = await completeAnswer({ ...question, generator, tokenizer, signal });
    signal.throwIfAborted();
    return { text, isCut: summary.end !== "stop_token" };
  } finally {
    generator.destroy();
  }
}

/**
 * A run's answer to its question. That of the base alone, asked for with `adapter` null, is the same for every run that asks
 * the same, and is made once.
 */
export async function answerOf(
  { tokenizer }: { readonly tokenizer: PairTokenizer },
  question: SampleQuestion,
  gpu: Gpu,
  { base, answers }: Pick<SharedBase, "base" | "answers">,
  adapter: LoraBuffers | null,
  signal: AbortSignal,
): Promise<SampleAnswer> {
  const { promptIds, stopIds, maxNewTokens, sampling } = question;
  const key = JSON.stringify([promptIds, [...stopIds], maxNewTokens, sampling]);
  const known = adapter ? undefined : answers.get(key);
  if (known) return known;
  const answer = await answerSample(gpu, base.weights, adapter, tokenizer, question, signal);
  if (!adapter) answers.set(key, answer);
  return answer;
}

export function reportSample(
  when: string,
  { prompt, maxNewTokens }: SampleQuestion,
  { text, isCut }: SampleAnswer,
  terminal: Terminal,
): void {
  terminal.line(`answer ${when} training to "${printable(prompt)}":`);
  for (const line of printableLines(text).split("\n")) terminal.line(`  ${line}`);
  if (isCut) terminal.line(`  … (cut after ${maxNewTokens} tokens: sample_max_new_tokens)`);
}
