import { fileURLToPath } from "node:url";
import type { Gpu } from "../../src/gpu/gpu.ts";
import type { BaseWeights } from "../../src/model/base-weights.ts";
import { type LoraBuffers, uploadAdapter } from "../../src/model/lora.ts";
import { loadBaseWeights } from "../../src/platform/load-base.ts";
import { openModelFolder } from "../../src/weights/model-folder.ts";
import { readPeftAdapter } from "../../src/weights/peft-adapter.ts";

/** The absolute path of a file or folder given from the repository's root. */
export function rootPath(path: string): string {
  return fileURLToPath(new URL(`../../${path}`, import.meta.url));
}

/** A model folder's weights on the GPU. The folder is given from the repository's root. */
export async function loadModel(gpu: Gpu, folder: string): Promise<BaseWeights> {
  const model = await openModelFolder(rootPath(folder));
  try {
    return (await loadBaseWeights(gpu, model, "f32")).weights;
  } finally {
    await model.close();
  }
}

/** An adapter on the GPU; null for none. The folder is given from the repository's root. */
export async function loadAdapter(
  gpu: Gpu,
  { config }: BaseWeights,
  folder: string | null,
): Promise<LoraBuffers | null> {
  return folder === null ? null : uploadAdapter(gpu, config, await readPeftAdapter(rootPath(folder), config));
}
