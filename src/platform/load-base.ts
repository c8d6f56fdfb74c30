import type { Gpu } from "../gpu/gpu.ts";
import { type BaseWeights, createBaseWeights } from "../model/base-weights.ts";
import { uploadTensor } from "../model/upload.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import { wholeRows } from "../weights/safetensors-file.ts";
import { floatDtype } from "../weights/tensor-checks.ts";

export interface LoadedBase {
  readonly weights: BaseWeights;
  /** Bytes read from the weight files. */
  readonly sizeBytes: number;
  /** SHA-256 of each weight file by its name. */
  readonly sha256: Readonly<Record<string, string>>;
}

/**
 * Streams a model folder's weights into GPU buffers, in chunks and in the order of the files, hashing them on the way.
 * bf16 stays bf16; f16 and f32 become f32.
 */
export async function loadBaseWeights(
  gpu: Gpu,
  folder: ModelFolder,
  onProgress: (doneBytes: number, totalBytes: number) => void = () => {},
): Promise<LoadedBase> {
  const weights = createBaseWeights(gpu, folder.config, (name) => {
    return floatDtype(folder.tensors.get(name)!) === "BF16" ? "bf16" : "f32";
  });
  const sha256: Record<string, string> = {};
  const totalBytes = folder.files.reduce((sum, file) => sum + file.sizeBytes, 0);
  let doneBytes = 0;
  for (const file of folder.files) {
    for await (const { tensor, firstElement, bytes } of file.stream({ pieceElements: wholeRows })) {
      const target = weights.tensors.get(tensor.name);
      if (target) uploadTensor(gpu, target, floatDtype(tensor), firstElement, bytes);
      doneBytes += bytes.byteLength;
      onProgress(doneBytes, totalBytes);
      await gpu.flush();
    }
    sha256[file.path.split(/[/\\]/).at(-1)!] = file.sha256Hex!;
  }
  return { weights, sizeBytes: totalBytes, sha256 };
}
