import type { Gpu } from "../gpu/gpu.ts";
import { type LoraBuffers, readMatrices } from "../model/lora.ts";
import type { LoraAdapter, LoraPair } from "../weights/peft-adapter.ts";
import type { Projection } from "../weights/projections.ts";

/** An adapter on the GPU → the host, in one round trip: for `writePeftAdapter` and `mergeModel`. */
export async function readLoraAdapter(gpu: Gpu, { settings, layers }: LoraBuffers): Promise<LoraAdapter> {
  const modules = layers.flatMap((factors, layer) => {
    return settings.targetModules.map((projection) => ({ layer, projection, ...factors[projection]! }));
  });
  const values = await readMatrices(
    gpu,
    modules.flatMap(({ a, b }) => [a, b]),
  );
  const read = layers.map((): Partial<Record<Projection, LoraPair>> => ({}));
  for (const [i, { layer, projection }] of modules.entries()) {
    read[layer]![projection] = { a: values[2 * i]!, b: values[2 * i + 1]! };
  }
  return { ...settings, layers: read };
}
