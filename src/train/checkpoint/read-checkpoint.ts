import { readFile } from "node:fs/promises";
import path from "node:path";
import { InputError } from "../../errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import type { LayerFactors } from "../../model/lora.ts";
import { printable } from "../../text.ts";
import { openSafetensorsFile } from "../../weights/safetensors-file.ts";
import type { Optimizer } from "../optimizer.ts";
import { METRICS_COPY, OPTIMIZER_FILE } from "./manifest.ts";
import { optimizerTensors, writeOptimizer } from "./optimizer-state.ts";

/** The records up to a checkpoint. */
export function readMetricsCopy(checkpoint: string): Promise<Buffer> {
  return readFile(path.join(checkpoint, METRICS_COPY));
}

/** Brings a checkpoint's optimizer state to the GPU. @throws InputError where it belongs to another run */
export async function restoreOptimizer(
  gpu: Gpu,
  layers: readonly LayerFactors[],
  optimizer: Optimizer,
  checkpoint: string,
): Promise<void> {
  const file = await openSafetensorsFile(path.join(checkpoint, OPTIMIZER_FILE));
  try {
    const tensors = optimizerTensors(layers, optimizer);
    if (file.header.tensors.size !== tensors.length) {
      throw new InputError(
        `${printable(file.path)}: must hold ${tensors.length} tensors, found ${file.header.tensors.size}`,
      );
    }
    for (const tensor of tensors) {
      const { name, dtype, shape } = tensor;
      const found = file.header.tensors.get(name);
      if (found?.dtype !== dtype || String(found.shape) !== String(shape)) {
        throw new InputError(`${printable(file.path)}: must hold "${name}" as ${dtype} of shape [${shape}]`);
      }
      writeOptimizer(gpu, tensor, await file.readTensor(name));
    }
    await gpu.flush();
  } finally {
    await file.close();
  }
}
