import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import type { Config } from "../config/schema.ts";
import { type Preflight, preflight } from "../data/preflight.ts";
import { type PreferenceRow, readPreferenceRows } from "../data/rows.ts";
import { trainTestSplit } from "../data/split.ts";
import { type TokenizedPair, type TokenizedRows, tokenizeRows } from "../data/tokenize.ts";
import type { PairTokenizer } from "../data/tokenizer.ts";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";

export interface PreparedData {
  readonly train: readonly TokenizedPair[];
  readonly trainPreflight: Preflight;
  /** Empty where nothing is evaluated. */
  readonly evaluation: readonly TokenizedPair[];
  readonly evaluationPreflight: Preflight | null;
  /** SHA-256 of each data file by its path. */
  readonly sha256: Readonly<Record<string, string>>;
}

/** Reads, splits and tokenizes the data that a config names. @throws InputError naming file and line */
export async function prepareData(config: Config, tokenizer: PairTokenizer, model: LlamaConfig): Promise<PreparedData> {
  const { dataset, eval_dataset: evalDataset, test_size: testSize, max_train_samples: maxTrain } = config;
  let trainRows: PreferenceRow[];
  let evaluationRows: PreferenceRow[] = [];
  if (testSize !== undefined) {
    const rows = await readPreferenceRows(dataset);
    const split = trainTestSplit(rows.length, testSize, config.seed);
    const select = (numbers: ArrayLike<number>) => Array.from(numbers, (number) => rows[number]!);
    trainRows = select(split.train).slice(0, maxTrain);
    evaluationRows = select(split.test);
  } else {
    trainRows = await readPreferenceRows(dataset, maxTrain);
    if (evalDataset !== undefined) evaluationRows = await readPreferenceRows(evalDataset);
  }
  const tokenize = (rows: PreferenceRow[]) =>
    tokenizeRows(rows, tokenizer, { promptTemplate: config.prompt_template, maxLength: config.max_length });
  const train = tokenize(trainRows);
  const evaluation = evaluationRows.length > 0 ? tokenize(evaluationRows) : null;
  for (const rows of [train, evaluation]) if (rows) requireKnownTokens(rows, model);
  const files = [dataset, ...(evalDataset === undefined ? [] : [evalDataset])];
  return {
    train: train.pairs,
    trainPreflight: preflight(train, tokenizer, config.max_length),
    evaluation: evaluation?.pairs ?? [],
    evaluationPreflight: evaluation && preflight(evaluation, tokenizer, config.max_length),
    sha256: Object.fromEntries(await Promise.all(files.map(async (file) => [file, await sha256Of(file)]))),
  };
}

/** A tokenizer that belongs to another model may have ids that this one has no embedding for. */
function requireKnownTokens({ pairs }: TokenizedRows, { vocabSize }: LlamaConfig): void {
  for (const { promptIds, chosenIds, rejectedIds, source } of pairs) {
    for (const ids of [promptIds, chosenIds, rejectedIds]) {
      const unknown = ids.find((id) => id >= vocabSize);
      if (unknown === undefined) continue;
      throw new InputError(
        `${printable(source.file)}:${source.line}: the tokenizer gives token ${unknown}, but the model's vocab_size is ${vocabSize}: ` +
          "tokenizer and model do not belong together",
      );
    }
  }
}

async function sha256Of(file: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  return hash.digest("hex");
}
