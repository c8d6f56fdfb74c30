import { availableParallelism } from "node:os";
import { InputError } from "../errors.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { type BaseWeights, createBaseWeights, tensorRanges } from "../model/base-weights.ts";
import { type HalfLoss, TensorUploader } from "../model/upload.ts";
import type { WeightFormat } from "../ops/matrix.ts";
import { NF4_BLOCK } from "../ops/nf4.ts";
import { printable } from "../text.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import { type SafetensorsFile, wholeRows } from "../weights/safetensors-file.ts";
import type { TensorInfo } from "../weights/safetensors-header.ts";
import { floatDtype } from "../weights/tensor-checks.ts";
import { keepWeights, loadKeptWeights, type ModelBuffers, type WeightsCache } from "./weights-cache.ts";

export interface LoadedBase {
  readonly weights: BaseWeights;
  /** Bytes of the weight files. */
  readonly sizeBytes: number;
  /** SHA-256 of each weight file by its name. */
  readonly sha256: Readonly<Record<string, string>>;
  /** Elements of the weights that f16 rounded, 0 on the f32 path. */
  readonly rounded: number;
  readonly precision: Precision;
  /** How the weights are kept: the precision, and whether the projections are in 4 bits. */
  readonly format: string;
  /** What was read: the model's files, or what an earlier run kept of them. */
  readonly from: "files" | "cache";
  /** Bytes of that. */
  readonly readBytes: number;
  /** From the start to the last byte on the GPU, without what it took to fill a cache. */
  readonly loadMs: number;
  /** Gives its memory on the GPU back. */
  readonly release: () => void;
}

/** The numeric path of the large matmuls: f32 on widened weights, or f16 on subgroup matrices. */
export type Precision = "f32" | "f16";

export interface LoadOptions {
  /** May throw, which ends the loading. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  /** Keep the projections in 4 bits (NF4). Default: false. */
  readonly in4Bit?: boolean;
  /** Where the weights are kept as they lie on the GPU; null to read the model's files in any case. */
  readonly cache?: WeightsCache | null;
}

/** Files that are read at once at most: each is hashed on a thread of its own. */
const MAX_FILES_AT_ONCE = 4;

/**
 * Brings a model folder's weights into GPU buffers, from its files or from a cache of an earlier run on the same files.
 * For the f32 path bf16 stays bf16, f16 and f32 become f32; for the f16 path all matrices become f16.
 *
 * @throws InputError where a weight lies beyond f16's range on the f16 path
 */
export async function loadBaseWeights(
  gpu: Gpu,
  folder: ModelFolder,
  precision: Precision,
  options: LoadOptions = {},
): Promise<LoadedBase> {
  const { in4Bit = false } = options;
  const { value: weights, buffers } = gpu.collect(() =>
    createBaseWeights(gpu, folder.config, (name) => storedFormat(folder, name, precision), in4Bit),
  );
  const filledBuffers = [...weights.tensors.values()].flatMap(tensorRanges).map(({ buffer }) => buffer);
  const format = in4Bit ? `${precision}, projections in 4 bits` : precision;
  const release = () => {
    for (const buffer of buffers) gpu.release(buffer);
  };
  try {
    const filled = await fill({ gpu, folder, format, buffers: filledBuffers }, weights, options);
    return { weights, sizeBytes: totalSize(folder.files), precision, format, release, ...filled };
  } catch (error) {
    release();
    throw error;
  }
}

/** How a tensor of a model folder is kept on the GPU. */
export function storedFormat(folder: ModelFolder, name: string, precision: Precision): WeightFormat {
  if (precision === "f16") return "f16";
  return floatDtype(folder.tensors.get(name)!) === "BF16" ? "bf16" : "f32";
}

type Filled = Pick<LoadedBase, "sha256" | "rounded" | "from" | "readBytes" | "loadMs">;

async function fill(
  model: ModelBuffers,
  weights: BaseWeights,
  { onProgress = () => {}, cache = null }: LoadOptions,
): Promise<Filled> {
  const { gpu, folder, buffers } = model;
  const startMs = performance.now();
  const kept = cache && (await loadKeptWeights(cache, model, onProgress));
  if (kept) return { ...kept, from: "cache", readBytes: totalSize(buffers), loadMs: performance.now() - startMs };

  const losses = await uploadFiles(gpu, folder, weights, onProgress);
  refuseOverflow(folder, losses);
  const facts = {
    sha256: Object.fromEntries(folder.files.map((file) => [fileName(file), file.sha256Hex!])),
    rounded: [...losses.values()].reduce((sum, { inexact }) => sum + inexact, 0),
  };
  const loadMs = performance.now() - startMs;
  if (cache) await keepWeights(cache, model, facts);
  return { ...facts, from: "files", readBytes: totalSize(folder.files), loadMs };
}

/** Streams the files into the weights' buffers, several at once, and hashes them on the way. */
async function uploadFiles(
  gpu: Gpu,
  folder: ModelFolder,
  weights: BaseWeights,
  onProgress: (doneBytes: number, totalBytes: number) => void,
): Promise<ReadonlyMap<string, HalfLoss>> {
  const totalBytes = totalSize(folder.files);
  let doneBytes = 0;
  const uploader = new TensorUploader(gpu, weights.tensors);
  const stop = new AbortController();
  const pieceElements = (tensor: TensorInfo) =>
    weights.tensors.get(tensor.name)?.kind === "nf4" ? NF4_BLOCK : wholeRows(tensor);
  const upload = async (file: SafetensorsFile): Promise<void> => {
    for await (const { tensor, firstElement, bytes } of file.stream({ pieceElements })) {
      stop.signal.throwIfAborted();
      if (weights.tensors.has(tensor.name)) {
        await uploader.upload(tensor.name, floatDtype(tensor), firstElement, bytes);
      }
      doneBytes += bytes.byteLength;
      onProgress(doneBytes, totalBytes);
    }
  };
  const rest = folder.files.values();
  const lane = async (): Promise<void> => {
    for (const file of rest) await upload(file);
  };
  try {
    const lanes = Math.min(MAX_FILES_AT_ONCE, availableParallelism(), folder.files.length);
    // The first failure stops all, and is thrown when nothing reads any more.
    await Promise.all(Array.from({ length: lanes }, () => lane().catch((error) => stop.abort(error))));
    stop.signal.throwIfAborted();
    return await uploader.finish();
  } finally {
    uploader.destroy();
  }
}

function refuseOverflow(folder: ModelFolder, losses: ReadonlyMap<string, HalfLoss>): void {
  for (const [name, { overflowing, isNotFinite }] of losses) {
    if (isNotFinite) {
      throw new InputError(
        `${printable(folder.tensors.get(name)!.file.path)}: every weight must be finite to be kept in 4 bits, but ` +
          `${printable(name)} has one that is not; the file is damaged, or leave out load_in_4bit`,
      );
    }
    if (overflowing === 0) continue;
    throw new InputError(
      `${printable(folder.tensors.get(name)!.file.path)}: on the f16 path every weight must lie within ±65504, but ` +
        `${overflowing} elements of ${printable(name)} do not; train with --precision f32`,
    );
  }
}

function totalSize(parts: readonly { readonly sizeBytes: number }[]): number {
  return parts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

function fileName(file: SafetensorsFile): string {
  return file.path.split(/[/\\]/).at(-1)!;
}
