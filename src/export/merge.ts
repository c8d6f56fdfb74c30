import { basename, join } from "node:path";
import type { ExportDtype } from "../config/names.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { writeFileAtomically } from "../weights/atomic-file.ts";
import { findInFolder } from "../weights/folder-files.ts";
import { decodeFloats, encodeFloats } from "../weights/half.ts";
import { isIgnoredTensor, projectionName } from "../weights/llama-tensors.ts";
import { CONFIG_FILE, type ModelFolder } from "../weights/model-folder.ts";
import type { LoraAdapter } from "../weights/peft-adapter.ts";
import { loraScale } from "../weights/peft-config.ts";
import type { Projection } from "../weights/projections.ts";
import { readTextFile } from "../weights/regular-file.ts";
import { type SafetensorsFile, type TensorPiece, wholeRows } from "../weights/safetensors-file.ts";
import { rowElements, type TensorInfo } from "../weights/safetensors-header.ts";
import { DEFAULT_MAX_SHARD_BYTES, ShardedWriter } from "../weights/sharded-writer.ts";
import { floatDtype } from "../weights/tensor-checks.ts";
import { copyCompanionFiles } from "./companion-files.ts";
import { FILE_DTYPE } from "./dtypes.ts";
import { type FidelityReport, fidelityReport } from "./fidelity.ts";
import { findNonFinite, nonFiniteError } from "./finite.ts";
import { addSums, type MergeSums, noSums } from "./merge-sums.ts";
import { setConfigDtype } from "./model-config.ts";
import { RowMerger } from "./row-merger.ts";
import { StagedFolder } from "./staged-folder.ts";

const MAX_CONFIG_BYTES = 2 ** 20;

export interface MergeOptions {
  readonly gpu: Gpu;
  readonly base: ModelFolder;
  /** Every value finite. */
  readonly adapter: LoraAdapter;
  /** Must not exist, or be empty. */
  readonly outputFolder: string;
  readonly dtype: ExportDtype;
  readonly maxShardBytes?: number;
  /** Bytes of the base's weight files that are done. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  /** When it is aborted nothing is left, and its reason is thrown. */
  readonly signal?: AbortSignal | undefined;
}

export interface ExportedFile {
  readonly name: string;
  readonly size_bytes: number;
  readonly sha256: string;
}

/** As in run.json. */
export interface MergeReport {
  /** The weight files of the merged model. */
  readonly files: readonly ExportedFile[];
  /** The weight files of the base as they were read. */
  readonly base_files: readonly ExportedFile[];
  readonly fidelity: FidelityReport;
}

/** The projection that a tensor is, of those that the adapter changes. */
interface AdaptedTensor {
  readonly layer: number;
  readonly projection: Projection;
  readonly sums: MergeSums;
}

/**
 * Writes a Hugging Face model folder: the base's weights, W + s·B·A in float32 where the adapter has a module, rounded to
 * nearest even to `dtype`, as PEFT's `merge_and_unload`, `.to(dtype)` and `save_pretrained` make it; config.json with the
 * dtype set; tokenizer, licences and the like copied. The folder appears when it is complete, or not at all.
 *
 * The base is streamed from its files and the result to its own, in pieces of 16 MiB, so that memory does not grow with
 * the model: about 100 MiB here and 100 MiB on the GPU, besides the adapter.
 *
 * @throws InputError for a folder that cannot be written, a base with values that are not finite, a value beyond `dtype`;
 * NonFiniteError where a merged value leaves float32; DeviceError.
 */
export async function mergeModel(options: MergeOptions): Promise<MergeReport> {
  const { base, outputFolder, dtype } = options;
  const staged = await StagedFolder.create(outputFolder);
  try {
    const report = await writeWeights(options, staged.path);
    await copyCompanionFiles(base.path, staged.path);
    const configPath = (await findInFolder(base.path, CONFIG_FILE))!;
    const config = setConfigDtype(await readTextFile(configPath, MAX_CONFIG_BYTES), configPath, dtype);
    await writeFileAtomically(join(staged.path, CONFIG_FILE), config);
    options.signal?.throwIfAborted();
    await staged.publish();
    return report;
  } catch (error) {
    await staged.discard();
    throw error;
  }
}

async function writeWeights(options: MergeOptions, folder: string): Promise<MergeReport> {
  const { gpu, base, adapter, dtype, maxShardBytes = DEFAULT_MAX_SHARD_BYTES, onProgress, signal } = options;
  const fileDtype = FILE_DTYPE[dtype];
  const isKept = ({ name }: TensorInfo) => !isIgnoredTensor(name, base.config);
  const stored = base.files.flatMap((file) => [...file.header.tensors.values()]).filter(isKept);
  const specs = stored.map(({ name, shape }) => ({ name, shape, dtype: fileDtype }));
  const totalBytes = base.files.reduce((sum, file) => sum + file.sizeBytes, 0);
  let doneBytes = 0;

  const adapted = adaptedTensors(adapter);
  const merger = new RowMerger(gpu, adapter, base.config, fileDtype);
  const writer = new ShardedWriter(folder, specs, maxShardBytes);
  try {
    for (const file of base.files) {
      for await (const piece of file.stream({ pieceElements: wholeRows })) {
        signal?.throwIfAborted();
        const { name } = piece.tensor;
        const target = adapted.get(name);
        if (target) {
          for await (const bytes of mergePiece(merger, options, target, file, piece)) await writer.append(name, bytes);
        } else if (isKept(piece.tensor)) {
          await writer.append(name, convertPiece(dtype, file, piece));
        }
        doneBytes += piece.bytes.byteLength;
        onProgress?.(doneBytes, totalBytes);
      }
    }
    const files = await writer.finish();
    const modules = [...adapted.values()].sort((x, y) => x.layer - y.layer);
    return {
      files: files.map(({ path, sizeBytes, sha256Hex }) => describeFile(path, sizeBytes, sha256Hex)),
      base_files: base.files.map(({ path, sizeBytes, sha256Hex }) => describeFile(path, sizeBytes, sha256Hex!)),
      fidelity: fidelityReport(dtype, modules),
    };
  } catch (error) {
    await writer.discard();
    throw error;
  } finally {
    merger.release();
  }
}

function describeFile(path: string, sizeBytes: number, sha256: string): ExportedFile {
  return { name: basename(path), size_bytes: sizeBytes, sha256 };
}

/** The tensors that an adapter changes, by name, with their sums at 0. */
function adaptedTensors({ layers, targetModules }: LoraAdapter): Map<string, AdaptedTensor> {
  const tensors = new Map<string, AdaptedTensor>();
  for (const layer of layers.keys()) {
    for (const projection of targetModules) {
      tensors.set(projectionName(layer, projection), { layer, projection, sums: noSums() });
    }
  }
  return tensors;
}

async function* mergePiece(
  merger: RowMerger,
  { adapter, dtype }: MergeOptions,
  target: AdaptedTensor,
  file: SafetensorsFile,
  piece: TensorPiece,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { tensor, bytes } = piece;
  const columns = rowElements(tensor.shape);
  const { layer, projection } = target;
  const rows = { layer, projection, dtype: floatDtype(tensor), firstRow: piece.firstElement / columns, bytes };
  for await (const merged of merger.merge(rows)) {
    if (merged.sums.notFinite > 0) {
      const index = findNonFinite(FILE_DTYPE[dtype], merged.bytes);
      const [row, column] = [merged.firstRow + Math.floor(index / columns), index % columns];
      const base = baseValue(piece, row * columns + column);
      const value = base + update(adapter, target, row, column);
      throw nonFiniteError({ file: file.path, tensor: tensor.name, at: [row, column], base, value, dtype });
    }
    addSums(target.sums, merged.sums);
    yield merged.bytes;
  }
}

/** Elements that no adapter changes, rounded to the export's dtype, or as they are where the file has it already. */
function convertPiece(dtype: ExportDtype, file: SafetensorsFile, piece: TensorPiece): Uint8Array {
  const { tensor, bytes } = piece;
  const from = floatDtype(tensor);
  const to = FILE_DTYPE[dtype];
  let converted: Uint8Array = bytes;
  if (from !== to) {
    const values = new Float32Array(piece.elements);
    decodeFloats(from, bytes, values);
    converted = encodeFloats(to, values);
  }
  const index = findNonFinite(to, converted);
  if (index < 0) return converted;
  const element = piece.firstElement + index;
  const columns = rowElements(tensor.shape);
  const at = tensor.shape.length > 1 ? [Math.floor(element / columns), element % columns] : [element];
  const value = baseValue(piece, element);
  throw nonFiniteError({ file: file.path, tensor: tensor.name, at, base: value, value, dtype });
}

/** An element of a tensor, which lies in this piece. */
function baseValue({ tensor, firstElement, elements, bytes }: TensorPiece, element: number): number {
  const values = new Float32Array(elements);
  decodeFloats(floatDtype(tensor), bytes, values);
  return values[element - firstElement]!;
}

/** An element of s·B·A, in float64. */
function update(adapter: LoraAdapter, { layer, projection }: AdaptedTensor, row: number, column: number): number {
  const { a, b } = adapter.layers[layer]![projection]!;
  const { r } = adapter;
  const columns = a.length / r;
  let sum = 0;
  for (let k = 0; k < r; k++) sum += b[row * r + k]! * a[k * columns + column]!;
  return sum * loraScale(adapter);
}
