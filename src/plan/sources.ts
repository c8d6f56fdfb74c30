import { existsSync } from "node:fs";
import path from "node:path";
import type { Config } from "../config/schema.ts";
import { list } from "../config/words.ts";
import type { PairTokens } from "../data/pack.ts";
import { trainTestSplit } from "../data/split.ts";
import { encodePrompt } from "../data/tokenize.ts";
import { loadTokenizer } from "../data/tokenizer.ts";
import { InputError } from "../errors.ts";
import { NotCached } from "../hub/dataset.ts";
import { findModelFolder, looksLikeHubId } from "../hub/resolve.ts";
import { printable } from "../text.ts";
import { type DataRows, readData, tokenizeData } from "../train/prepare-data.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";
import { readLlamaConfig } from "../weights/model-folder.ts";
import { MODEL_SHAPES } from "./model-shapes.ts";

/** What a plan is made of. */
export interface PlanSources {
  readonly modelName: string;
  readonly model: LlamaConfig;
  readonly train: readonly PairTokens[];
  readonly evaluation: readonly PairTokens[];
  /** Tokens of `sample_prompt`; null without one. */
  readonly samplePromptTokens: number | null;
  /** What could not be read and was assumed, a sentence each. */
  readonly assumptions: readonly string[];
}

/** Rows of a data set that is not there. */
const ASSUMED_ROWS = 1000;
/** The prompt's part of `max_length` in a pair whose tokens are not known. */
const ASSUMED_PROMPT = 1 / 4;
/** Tokens of a sample's prompt where there is no tokenizer. */
const ASSUMED_SAMPLE_TOKENS = 128;

/**
 * Finds a model's shape and the lengths of the pairs, with neither weights nor network: from `--shape`, a local folder or
 * the Hub's cache. What is not there is assumed, and said.
 *
 * @param pairs rows that the data set is taken to have, undefined to read it
 * @throws InputError where there is no shape, or the data set is there and wrong
 */
export async function planSources(
  config: Config,
  { shape, pairs }: { shape: string | undefined; pairs: number | undefined },
): Promise<PlanSources> {
  const folder = await findModelFolder(config.model);
  const { name: modelName, model } = await shapeOf(config.model, folder, shape);
  const tokenizer =
    folder !== null && existsSync(path.join(folder, "tokenizer.json")) ? await loadTokenizer(folder) : null;
  const { rows, absent } = pairs === undefined ? await readAvailable(config) : { rows: null, absent: [] };
  const prompt = config.sample_prompt;
  const promptTokens =
    tokenizer && prompt !== undefined && encodePrompt(prompt, tokenizer, config.prompt_template).length;
  const found = {
    modelName,
    model,
    samplePromptTokens: prompt === undefined ? null : promptTokens || ASSUMED_SAMPLE_TOKENS,
  };
  if (tokenizer && rows) {
    // With another model's shape the tokenizer is only there to count.
    const known = shape === undefined ? model : { ...model, vocabSize: Number.MAX_SAFE_INTEGER };
    const { train, evaluation } = tokenizeData(rows, config, tokenizer, known);
    return { ...found, train: train.map(lengthsOnly), evaluation: evaluation.map(lengthsOnly), assumptions: [] };
  }
  const pair = assumedPair(config.max_length);
  const counts = rows
    ? { train: rows.train.length, evaluation: rows.evaluation.length }
    : assumedCounts(config, pairs ?? ASSUMED_ROWS);
  return {
    ...found,
    train: new Array<PairTokens>(counts.train).fill(pair),
    evaluation: new Array<PairTokens>(counts.evaluation).fill(pair),
    assumptions: [
      ...(absent.length > 0
        ? [
            `${ASSUMED_ROWS} pairs, as ${absent.map((file) => printable(file)).join(" and ")} cannot be read here (--pairs says how many)`,
          ]
        : []),
      `every pair as long as max_length lets it be: a prompt of ${pair.promptIds.length} tokens with answers of ${pair.chosenIds.length}`,
      ...(!rows && config.eval_dataset !== undefined ? ["the pairs of eval_dataset are not counted"] : []),
    ],
  };
}

/** The rows of data sets that are here, locally or in the Hub's cache; else which of them are not. */
async function readAvailable(config: Config): Promise<{ rows: DataRows | null; absent: readonly string[] }> {
  const named = [config.dataset, ...(config.eval_dataset === undefined ? [] : [config.eval_dataset])];
  const absent = named.filter((reference) => !existsSync(reference) && !looksLikeHubId(reference));
  if (absent.length > 0) return { rows: null, absent };
  try {
    return { rows: await readData(config, { env: { ...process.env, HF_HUB_OFFLINE: "1" } }), absent };
  } catch (error) {
    if (error instanceof NotCached) return { rows: null, absent: named.filter((reference) => !existsSync(reference)) };
    throw error;
  }
}

/** Of a data set of so many rows that is divided as the config says. */
function assumedCounts({ test_size: testSize, max_train_samples: most = Infinity, seed }: Config, rows: number) {
  if (testSize === undefined) return { train: Math.min(rows, most), evaluation: 0 };
  const { train, test } = trainTestSplit(rows, testSize, seed);
  return { train: Math.min(train.length, most), evaluation: test.length };
}

async function shapeOf(
  reference: string,
  folder: string | null,
  shape: string | undefined,
): Promise<{ name: string; model: LlamaConfig }> {
  if (shape !== undefined) {
    if (Object.hasOwn(MODEL_SHAPES, shape)) return { name: shape, model: MODEL_SHAPES[shape]! };
    throw new InputError(`--shape must be one of ${list(Object.keys(MODEL_SHAPES), "or")}, got "${printable(shape)}"`);
  }
  if (folder !== null) return { name: printable(reference), model: await readLlamaConfig(folder) };
  throw new InputError(
    `model ${printable(reference)} is neither a local folder nor in the Hub's cache, and a plan downloads nothing: ` +
      `say its shape with --shape ${Object.keys(MODEL_SHAPES).join("|")}, or give a folder that holds its config.json`,
  );
}

function assumedPair(maxLength: number): PairTokens {
  const prompt = Math.max(1, Math.floor(maxLength * ASSUMED_PROMPT));
  const answer = Math.max(1, maxLength - prompt);
  return pairOfLengths(prompt, answer, answer);
}

function lengthsOnly({ promptIds, chosenIds, rejectedIds }: PairTokens): PairTokens {
  return pairOfLengths(promptIds.length, chosenIds.length, rejectedIds.length);
}

/** A plan looks no token up, and a shape may know fewer than the tokenizer. */
function pairOfLengths(prompt: number, chosen: number, rejected: number): PairTokens {
  const zeros = new Uint32Array(Math.max(prompt, chosen, rejected));
  const first = (length: number) => zeros.subarray(0, length);
  return { promptIds: first(prompt), chosenIds: first(chosen), rejectedIds: first(rejected) };
}
