import { InputError } from "../errors.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { type BaseWeights, createBaseWeights } from "../model/base-weights.ts";
import { uploadTensor } from "../model/upload.ts";
import { printable } from "../text.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import { wholeRows } from "../weights/safetensors-file.ts";
import { floatDtype } from "../weights/tensor-checks.ts";

export interface LoadedBase {
  readonly weights: BaseWeights;
  /** Bytes read from the weight files. */
  readonly sizeBytes: number;
  /** SHA-256 of each weight file by its name. */
  readonly sha256: Readonly<Record<string, string>>;
  /** Elements of the weights that f16 rounded, 0 on the f32 path. */
  readonly rounded: number;
  readonly precision: Precision;
}

/** The numeric path of the large matmuls: f32 on widened weights, or f16 on subgroup matrices. */
export type Precision = "f32" | "f16";

/**
 * Streams a model folder's weights into GPU buffers, in chunks and in the order of the files, hashing them on the way.
 * For the f32 path bf16 stays bf16, f16 and f32 become f32; for the f16 path all matrices become f16.
 *
 * @throws InputError where a weight lies beyond f16's range on the f16 path
 */
export async function loadBaseWeights(
  gpu: Gpu,
  folder: ModelFolder,
  precision: Precision,
  onProgress: (doneBytes: number, totalBytes: number) => void = () => {},
): Promise<LoadedBase> {
  const weights = createBaseWeights(gpu, folder.config, (name) => {
    if (precision === "f16") return "f16";
    return floatDtype(folder.tensors.get(name)!) === "BF16" ? "bf16" : "f32";
  });
  const sha256: Record<string, string> = {};
  const totalBytes = folder.files.reduce((sum, file) => sum + file.sizeBytes, 0);
  let doneBytes = 0;
  let rounded = 0;
  for (const file of folder.files) {
    for await (const { tensor, firstElement, bytes } of file.stream({ pieceElements: wholeRows })) {
      const target = weights.tensors.get(tensor.name);
      if (target) {
        const { inexact, overflowing } = uploadTensor(gpu, target, floatDtype(tensor), firstElement, bytes);
        rounded += inexact;
        if (overflowing > 0) {
          throw new InputError(
            `${printable(file.path)}: on the f16 path every weight must lie within ±65504, but ${overflowing} elements of ` +
              `${printable(tensor.name)} do not; train with --precision f32`,
          );
        }
      }
      doneBytes += bytes.byteLength;
      onProgress(doneBytes, totalBytes);
      await gpu.flush();
    }
    sha256[file.path.split(/[/\\]/).at(-1)!] = file.sha256Hex!;
  }
  return { weights, sizeBytes: totalBytes, sha256, rounded, precision };
}
