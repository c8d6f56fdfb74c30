import type { Journal } from "../curation/ask/journal.ts";
import { sha256Hex } from "../curation/ask/questions.ts";
import type { PairTokenizer } from "../data/tokenizer.ts";
import { completeAnswer } from "../generate/answer.ts";
import { positionsFor } from "../generate/question.ts";
import type { SamplingSettings } from "../generate/sampler.ts";
import type { Gpu } from "../gpu/gpu.ts";
import type { BaseWeights } from "../model/base-weights.ts";
import { Generator } from "../model/generator.ts";
import type { LoraBuffers } from "../model/lora.ts";
import type { Terminal } from "../terminal.ts";
import type { Question } from "./held-out.ts";

/** How models are asked. */
export interface AskSettings {
  readonly maxNewTokens: number;
  readonly temperature: number;
  readonly topP: number;
  /** Each question has a seed of its own, the same for every model. */
  readonly seed: number;
}

export interface Answer {
  readonly text: string;
  /** Whether it stops before its end, for its length. */
  readonly isCut: boolean;
}

/** A model on the GPU that is to answer. */
export interface AskedModel {
  readonly weights: BaseWeights;
  /** Null for the weights alone. */
  readonly adapter: LoraBuffers | null;
  /** Tokens that end its answers. */
  readonly stopIds: ReadonlySet<number>;
  /** What its answers depend on besides the question: its weights, and the device that computes them. */
  readonly identity: unknown;
}

export interface AskOptions {
  readonly gpu: Gpu;
  readonly tokenizer: PairTokenizer;
  readonly questions: readonly Question[];
  readonly settings: AskSettings;
  /** Keeps every answer as soon as it is there. */
  readonly journal: Journal;
  readonly terminal: Terminal;
  readonly signal: AbortSignal;
}

/**
 * Has each question answered by each model, question after question. What the journal holds is not answered again.
 *
 * @returns for each model its answers, in the order of the questions
 * @throws the signal's reason when it is aborted; the answer at hand is not kept then
 */
export async function answerQuestions(models: readonly AskedModel[], options: AskOptions): Promise<Answer[][]> {
  const { questions, settings, journal, terminal } = options;
  const known = new Map<string, Answer>();
  for (const entry of journal.entries) if (entry.kind === "generation") known.set(entry.request, entry);
  const jobs = questions.flatMap((question, index) => {
    const sampling = samplingOf(settings, index);
    return models.map((model) => ({ model, question, sampling, key: keyOf(model, question, sampling, settings) }));
  });
  const open = jobs.filter(({ key }) => !known.has(key));
  if (open.length < jobs.length)
    terminal.line(`${jobs.length - open.length} of ${jobs.length} answers are there already`);

  const generators = new Map<AskedModel, Generator>();
  try {
    for (const [done, { model, question, sampling, key }] of open.entries()) {
      terminal.status(`answers: ${done} of ${open.length}`);
      const generator = generators.get(model) ?? createGenerator(model, options);
      generators.set(model, generator);
      known.set(key, await makeAnswer(generator, model, question, sampling, key, options));
    }
  } finally {
    for (const generator of generators.values()) generator.destroy();
  }
  return models.map((model) => jobs.filter((job) => job.model === model).map(({ key }) => known.get(key)!));
}

/** A cache that is long enough for all questions. */
function createGenerator({ weights, adapter }: AskedModel, { gpu, questions, settings }: AskOptions): Generator {
  const longest = questions.reduce((most, { promptIds }) => Math.max(most, promptIds.length), 0);
  const maxPositions = positionsFor(longest, settings.maxNewTokens, weights.config);
  return new Generator({ gpu, weights, adapter, maxPositions });
}

async function makeAnswer(
  generator: Generator,
  { stopIds }: AskedModel,
  { promptIds }: Question,
  sampling: SamplingSettings,
  key: string,
  { tokenizer, settings, journal, signal }: AskOptions,
): Promise<Answer> {
  const at = new Date().toISOString();
  const startMs = performance.now();
  const { maxNewTokens } = settings;
  const request = { generator, tokenizer, promptIds, sampling, stopIds, maxNewTokens, signal };
  const { text, summary } = await completeAnswer(request);
  signal.throwIfAborted();
  const answer = { text, isCut: summary.end !== "stop_token" };
  const elapsedMs = Math.round(performance.now() - startMs);
  await journal.append({ kind: "generation", request: key, at, elapsedMs, ...answer });
  return answer;
}

function samplingOf({ temperature, topP, seed }: AskSettings, index: number): SamplingSettings {
  return { temperature, topP, topK: 0, seed: (seed + index) % 2 ** 32 };
}

function keyOf(
  { identity, stopIds }: AskedModel,
  { promptIds }: Question,
  sampling: SamplingSettings,
  { maxNewTokens }: AskSettings,
): string {
  const chosenBy = sampling.temperature === 0 ? "the likeliest" : sampling;
  return sha256Hex(JSON.stringify([identity, [...stopIds], promptIds, chosenBy, maxNewTokens]));
}
