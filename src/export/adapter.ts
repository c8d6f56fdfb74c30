import type { Gpu } from "../gpu/gpu.ts";
import { type LoraBuffers, readMatrices } from "../model/lora.ts";
import type { LoraAdapter, LoraPair } from "../weights/peft-adapter.ts";
import type { Projection } from "../weights/projections.ts";

/**
 * An adapter on the GPU → the host, for `writePeftAdapter` and `mergeModel`: layer by layer, as all of it at once would take
 * as much memory again as the adapter.
 */
export async function readLoraAdapter(gpu: Gpu, { settings, layers }: LoraBuffers): Promise<LoraAdapter> {
  const read: Partial<Record<Projection, LoraPair>>[] = [];
  for (const factors of layers) {
    const matrices = settings.targetModules.map((projection) => factors[projection]!);
    const values = await readMatrices(
      gpu,
      matrices.flatMap(({ a, b }) => [a, b]),
    );
    read.push(
      Object.fromEntries(
        settings.targetModules.map((projection, i) => [projection, { a: values[2 * i]!, b: values[2 * i + 1]! }]),
      ),
    );
  }
  gpu.releaseStaging();
  return { ...settings, layers: read };
}
