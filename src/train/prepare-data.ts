import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import type { Config } from "../config/schema.ts";
import type { DataFile } from "../data/data-file.ts";
import { type DatasetFiles, findDatasetFiles } from "../data/dataset-files.ts";
import { type Preflight, preflight } from "../data/preflight.ts";
import { placeOf } from "../data/problems.ts";
import { type PreferenceRow, readPreferenceRows } from "../data/rows.ts";
import { trainTestSplit } from "../data/split.ts";
import { type TokenizedPair, type TokenizedRows, tokenizeRows } from "../data/tokenize.ts";
import type { PairTokenizer } from "../data/tokenizer.ts";
import { InputError } from "../errors.ts";
import type { ResolveOptions } from "../hub/resolve.ts";
import { printable } from "../text.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";

/** What says which rows are read. */
export type DataSettings = Pick<
  Config,
  | "dataset"
  | "dataset_config"
  | "dataset_train_split"
  | "dataset_test_split"
  | "eval_dataset"
  | "columns"
  | "test_size"
  | "max_train_samples"
  | "seed"
>;

/** The rows that a config names, as text. */
export interface DataRows {
  readonly train: readonly PreferenceRow[];
  /** Empty where nothing is evaluated. */
  readonly evaluation: readonly PreferenceRow[];
  /** SHA-256 of each data file by its name. */
  readonly sha256: Readonly<Record<string, string>>;
  /** What was read from the Hub, by the key that names it. */
  readonly hub: DataOrigins;
}

type DataOrigins = Readonly<Partial<Record<"dataset" | "eval_dataset", DatasetFiles["hub"]>>>;

export interface PreparedData {
  readonly train: readonly TokenizedPair[];
  readonly trainPreflight: Preflight;
  /** Empty where nothing is evaluated. */
  readonly evaluation: readonly TokenizedPair[];
  readonly evaluationPreflight: Preflight | null;
  /** Rows whose prompt is an empty text, and where the first of them is. */
  readonly emptyPrompts: { readonly rows: number; readonly first: string | null };
  /** SHA-256 of each data file by its name. */
  readonly sha256: Readonly<Record<string, string>>;
  /** What was read from the Hub, by the key that names it. */
  readonly hub: DataOrigins;
}

/**
 * Finds, downloads, reads and splits the data that a config names, which needs no model.
 *
 * @throws InputError naming file and line; the signal's reason when it is aborted
 */
export async function readData(settings: DataSettings, options: ResolveOptions = {}): Promise<DataRows> {
  const { dataset, eval_dataset: evalDataset, dataset_config: config, columns, seed } = settings;
  const { test_size: testSize, max_train_samples: maxTrain } = settings;
  const train = await findDatasetFiles(
    {
      key: "dataset",
      reference: dataset,
      config,
      split: settings.dataset_train_split,
      splitKey: "dataset_train_split",
      defaultSplit: "train",
    },
    options,
  );
  const evaluation =
    evalDataset === undefined
      ? undefined
      : await findDatasetFiles(
          {
            key: "eval_dataset",
            reference: evalDataset,
            config,
            split: settings.dataset_test_split,
            splitKey: "dataset_test_split",
            defaultSplit: "test",
          },
          options,
        );
  if (config !== undefined && train.isOneFile && (evaluation?.isOneFile ?? true)) {
    throw new InputError(
      `dataset_config has no effect on "${printable(dataset)}", which is one file: remove dataset_config`,
    );
  }
  const rows = await readPreferenceRows(train.files, {
    columns,
    maxRows: testSize === undefined ? maxTrain : undefined,
  });
  const evaluationRows = evaluation ? await readPreferenceRows(evaluation.files, { columns }) : [];
  const found = {
    sha256: await sha256OfFiles([...train.files, ...(evaluation?.files ?? [])]),
    hub: { dataset: train.hub, eval_dataset: evaluation?.hub },
  };
  if (testSize === undefined) return { train: rows, evaluation: evaluationRows, ...found };
  const split = trainTestSplit(rows.length, testSize, seed);
  const select = (numbers: ArrayLike<number>) => Array.from(numbers, (number) => rows[number]!);
  return { train: select(split.train).slice(0, maxTrain), evaluation: select(split.test), ...found };
}

/** Tokenizes rows for a model. @throws InputError naming file and line */
export function tokenizeData(
  { train: trainRows, evaluation: evaluationRows, sha256, hub }: DataRows,
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
    hub,
  };
}

function findEmptyPrompts(rows: readonly PreferenceRow[]): PreparedData["emptyPrompts"] {
  const empty = rows.filter(({ kind, prompt }) => kind === "text" && prompt === "");
  const source = empty[0]?.source;
  return { rows: empty.length, first: source ? placeOf(source) : null };
}

/** A tokenizer that belongs to another model may have ids that this one has no embedding for. @throws InputError */
export function requireKnownTokens({ pairs }: TokenizedRows, { vocabSize }: LlamaConfig): void {
  for (const { promptIds, chosenIds, rejectedIds, source } of pairs) {
    for (const ids of [promptIds, chosenIds, rejectedIds]) {
      const unknown = ids.find((id) => id >= vocabSize);
      if (unknown === undefined) continue;
      throw new InputError(
        `${placeOf(source)}: the tokenizer gives token ${unknown}, but the model's vocab_size is ${vocabSize}: ` +
          "tokenizer and model do not belong together",
      );
    }
  }
}

async function sha256OfFiles(files: readonly DataFile[]): Promise<Record<string, string>> {
  const hashes = new Map<string, string>();
  for (const { path, name } of files) if (!hashes.has(name)) hashes.set(name, await sha256Of(path));
  return Object.fromEntries(hashes);
}

async function sha256Of(file: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  return hash.digest("hex");
}
