import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
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

/** `owner/name` of a data set on the Hugging Face Hub. */
const HUB_ID = /^[\w.-]+\/[\w.-]+$/;

/** The rows that a config names, as text. */
export interface DataRows {
  readonly train: readonly PreferenceRow[];
  /** Empty where nothing is evaluated. */
  readonly evaluation: readonly PreferenceRow[];
  /** SHA-256 of each data file by its path. */
  readonly sha256: Readonly<Record<string, string>>;
}

export interface PreparedData {
  readonly train: readonly TokenizedPair[];
  readonly trainPreflight: Preflight;
  /** Empty where nothing is evaluated. */
  readonly evaluation: readonly TokenizedPair[];
  readonly evaluationPreflight: Preflight | null;
  /** Rows whose prompt is an empty text, and where the first of them is. */
  readonly emptyPrompts: { readonly rows: number; readonly first: string | null };
  /** SHA-256 of each data file by its path. */
  readonly sha256: Readonly<Record<string, string>>;
}

/** Reads and splits the data that a config names, which needs no model. @throws InputError naming file and line */
export async function readData(config: Config): Promise<DataRows> {
  const { dataset, eval_dataset: evalDataset, test_size: testSize, max_train_samples: maxTrain } = config;
  requireFile("dataset", dataset);
  if (evalDataset !== undefined) requireFile("eval_dataset", evalDataset);
  const rows = await readPreferenceRows(dataset, testSize === undefined ? maxTrain : undefined);
  const evaluation = evalDataset === undefined ? [] : await readPreferenceRows(evalDataset);
  const files = evalDataset === undefined ? [dataset] : [dataset, evalDataset];
  const sha256 = Object.fromEntries(await Promise.all(files.map(async (file) => [file, await sha256Of(file)])));
  if (testSize === undefined) return { train: rows, evaluation, sha256 };
  const split = trainTestSplit(rows.length, testSize, config.seed);
  const select = (numbers: ArrayLike<number>) => Array.from(numbers, (number) => rows[number]!);
  return { train: select(split.train).slice(0, maxTrain), evaluation: select(split.test), sha256 };
}

/** Tokenizes rows for a model. @throws InputError naming file and line */
export function tokenizeData(
  { train: trainRows, evaluation: evaluationRows, sha256 }: DataRows,
  config: Config,
  tokenizer: PairTokenizer,
  model: LlamaConfig,
): PreparedData {
  const tokenize = (rows: readonly PreferenceRow[]) =>
    tokenizeRows(rows, tokenizer, { promptTemplate: config.prompt_template, maxLength: config.max_length });
  const train = tokenize(trainRows);
  const evaluation = evaluationRows.length > 0 ? tokenize(evaluationRows) : null;
  for (const rows of [train, evaluation]) if (rows) requireKnownTokens(rows, model);
  return {
    train: train.pairs,
    trainPreflight: preflight(train, tokenizer, config.max_length),
    evaluation: evaluation?.pairs ?? [],
    evaluationPreflight: evaluation && preflight(evaluation, tokenizer, config.max_length),
    emptyPrompts: findEmptyPrompts([...trainRows, ...evaluationRows]),
    sha256,
  };
}

function findEmptyPrompts(rows: readonly PreferenceRow[]): PreparedData["emptyPrompts"] {
  const empty = rows.filter(({ kind, prompt }) => kind === "text" && prompt === "");
  const source = empty[0]?.source;
  return { rows: empty.length, first: source ? `${source.file}:${source.line}` : null };
}

function requireFile(key: "dataset" | "eval_dataset", file: string): void {
  if (existsSync(file)) return;
  const found = `${key} "${printable(file)}" does not exist`;
  if (!HUB_ID.test(file) || /\.jsonl?$/i.test(file)) {
    const from = printable(process.cwd(), 1000);
    throw new InputError(`${found}: give a .jsonl or .json file (a relative path starts at ${from})`);
  }
  const name = `${file.slice(file.indexOf("/") + 1)}.jsonl`;
  throw new InputError(
    `${found}, and this version does not read data sets from the Hugging Face Hub: download it as a file, in Python with ` +
      `datasets.load_dataset("${file}", split="train").to_json("${name}"), and give its path with --set ${key}=${name}`,
  );
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
