import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { findInFolder, requireFolder } from "./folder-files.ts";
import { type LlamaConfig, parseLlamaConfig } from "./llama-config.ts";
import { checkLlamaTensors, EMBEDDING_NAME, HEAD_NAME } from "./llama-tensors.ts";
import { INDEX_FILE, parseModelIndex, WEIGHTS_FILE } from "./model-index.ts";
import { listNames } from "./problems.ts";
import { readTextFile } from "./regular-file.ts";
import { DEFAULT_CHUNK_BYTES, openSafetensorsFile, type SafetensorsFile, wholeRows } from "./safetensors-file.ts";
import { DTYPE_BYTES, refuseOtherWeightFormats, type TensorInfo } from "./safetensors-header.ts";

export const CONFIG_FILE = "config.json";

const MAX_CONFIG_BYTES = 2 ** 20;
/** The index of the largest published models has about 10 MB. */
const MAX_INDEX_BYTES = 100_000_000;

/** A stored tensor and the open file that holds it. */
export interface StoredModelTensor extends TensorInfo {
  readonly file: SafetensorsFile;
}

/**
 * Opens a Hugging Face model folder: reads config.json, opens the weights (one file or the shards of an index), and
 * checks that they hold exactly what the config needs. No tensor data is read, but for a tied head that is stored too.
 * Throws InputError.
 */
export async function openModelFolder(folder: string): Promise<ModelFolder> {
  await requireFolder(folder, "a model folder");
  const config = await readLlamaConfig(folder);
  const files = await openWeights(folder);
  try {
    const tensors = new Map<string, StoredModelTensor>();
    for (const file of files) {
      for (const [name, tensor] of file.header.tensors) tensors.set(name, { ...tensor, file });
    }
    checkLlamaTensors(config, tensors, folder);
    if (config.tieWordEmbeddings) await checkTiedHead(folder, tensors);
    return new ModelFolder(folder, config, files, tensors);
  } catch (error) {
    await closeAll(files);
    throw error;
  }
}

/** Owns the open weight files of a model folder. */
export class ModelFolder {
  readonly path: string;
  readonly config: LlamaConfig;
  /** In the order of their names. Stream each for its data and its SHA-256. */
  readonly files: readonly SafetensorsFile[];
  /** Every stored tensor by name, those that a model has no use for included. */
  readonly tensors: ReadonlyMap<string, StoredModelTensor>;

  constructor(
    path: string,
    config: LlamaConfig,
    files: readonly SafetensorsFile[],
    tensors: ReadonlyMap<string, StoredModelTensor>,
  ) {
    this.path = path;
    this.config = config;
    this.files = files;
    this.tensors = tensors;
  }

  async close(): Promise<void> {
    await closeAll(this.files);
  }
}

/** Reads and checks the config.json of a model folder, without its weights. Throws InputError. */
export async function readLlamaConfig(folder: string): Promise<LlamaConfig> {
  const path = await findInFolder(folder, CONFIG_FILE);
  if (path === undefined) {
    throw new InputError(`${printable(folder)}: must be a model folder with a ${CONFIG_FILE}, found none`);
  }
  return parseLlamaConfig(await readTextFile(path, MAX_CONFIG_BYTES), path);
}

async function closeAll(files: readonly SafetensorsFile[]): Promise<void> {
  for (const file of files) await file.close();
}

// One file goes before an index, as in transformers.
async function openWeights(folder: string): Promise<SafetensorsFile[]> {
  const single = await findInFolder(folder, WEIGHTS_FILE);
  if (single !== undefined) return [await openSafetensorsFile(single)];
  const indexPath = await findInFolder(folder, INDEX_FILE);
  if (indexPath === undefined) return refuseWithoutWeights(folder);
  const shardOf = parseModelIndex(await readTextFile(indexPath, MAX_INDEX_BYTES), indexPath);
  const files = await openShards(folder, [...new Set(shardOf.values())].sort(), indexPath);
  try {
    checkIndex(indexPath, shardOf, files);
    return [...files.values()];
  } catch (error) {
    await closeAll([...files.values()]);
    throw error;
  }
}

async function refuseWithoutWeights(folder: string): Promise<never> {
  const names = (await readdir(folder)).sort();
  // By name, because training_args.bin is no weight file.
  for (const name of names) if (/model|^consolidated/.test(name)) refuseOtherWeightFormats(join(folder, name));
  const found = names.filter((name) => name.endsWith(".safetensors"));
  throw new InputError(
    `${printable(folder)}: must hold ${WEIGHTS_FILE}, or ${INDEX_FILE} with its shards, found ` +
      (found.length > 0 ? listNames(found) : "no .safetensors file"),
  );
}

async function openShards(
  folder: string,
  shards: readonly string[],
  indexPath: string,
): Promise<Map<string, SafetensorsFile>> {
  const paths = new Map<string, string>();
  const missing: string[] = [];
  for (const shard of shards) {
    const path = await findInFolder(folder, shard);
    if (path === undefined) missing.push(shard);
    else paths.set(shard, path);
  }
  if (missing.length > 0) {
    throw new InputError(
      `${printable(indexPath)}: every shard must be in the folder, missing ${listNames(missing)}; fetch the model again`,
    );
  }
  const files = new Map<string, SafetensorsFile>();
  try {
    for (const [shard, path] of paths) files.set(shard, await openSafetensorsFile(path));
    return files;
  } catch (error) {
    await closeAll([...files.values()]);
    throw error;
  }
}

/** The index and the shards must name the same tensors in the same files. */
function checkIndex(
  indexPath: string,
  shardOf: ReadonlyMap<string, string>,
  files: ReadonlyMap<string, SafetensorsFile>,
): void {
  const place = printable(indexPath);
  for (const [name, shard] of shardOf) {
    if (files.get(shard)!.header.tensors.has(name)) continue;
    const elsewhere = [...files].find(([, file]) => file.header.tensors.has(name))?.[0];
    const found = elsewhere === undefined ? "it in no shard" : `it in ${printable(elsewhere)}`;
    throw new InputError(`${place}: tensor "${printable(name)}" must be in ${printable(shard)}, found ${found}`);
  }
  for (const [shard, file] of files) {
    for (const name of file.header.tensors.keys()) {
      const owner = shardOf.get(name);
      if (owner === shard) continue;
      throw new InputError(
        `${printable(file.path)}: holds tensor "${printable(name)}", which the index ` +
          `${owner === undefined ? "does not name" : `places in ${printable(owner)}`}; fetch the model again`,
      );
    }
  }
}

/** A stored head beside tied embeddings must be the embedding: transformers would not tie them otherwise. */
async function checkTiedHead(folder: string, tensors: ReadonlyMap<string, StoredModelTensor>): Promise<void> {
  const head = tensors.get(HEAD_NAME);
  const embedding = tensors.get(EMBEDDING_NAME)!;
  if (head === undefined) return;
  let same = head.dtype === embedding.dtype;
  const rows = embedding.shape[0]!;
  const step = Math.max(1, Math.floor(DEFAULT_CHUNK_BYTES / (wholeRows(embedding) * DTYPE_BYTES[embedding.dtype])));
  for (let begin = 0; same && begin < rows; begin += step) {
    const end = Math.min(begin + step, rows);
    const ours = await embedding.file.readRows(EMBEDDING_NAME, begin, end);
    same = Buffer.compare(ours, await head.file.readRows(HEAD_NAME, begin, end)) === 0;
  }
  if (same) return;
  throw new InputError(
    `${printable(folder)}: "${HEAD_NAME}" must equal "${EMBEDDING_NAME}" where config.json has tie_word_embeddings: true, ` +
      "found other values; if the model does not tie them, set tie_word_embeddings to false",
  );
}
