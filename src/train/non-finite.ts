import { ExpectedError } from "../errors.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { eachFactor, factorName, type LoraBuffers, readMatrices } from "../model/lora.ts";

/** The adapter's first factor that is not finite, and its first such value; null where all are. */
export async function findNonFiniteWeight(gpu: Gpu, { layers }: LoraBuffers): Promise<string | null> {
  for (const factor of eachFactor(layers)) {
    const [values] = await readMatrices(gpu, [factor.matrix]);
    const at = values!.findIndex((value) => !Number.isFinite(value));
    if (at >= 0) return `${factorName(factor)} (${values![at]} at element ${at})`;
  }
  return null;
}

/** The same as half a sentence, for a message that must come out also where the device cannot be asked any more. */
export async function describeWeights(gpu: Gpu, adapter: LoraBuffers): Promise<string> {
  try {
    const found = await findNonFiniteWeight(gpu, adapter);
    if (found === null) return "the adapter's weights are finite";
    return `of the adapter's weights the first that is not finite is in ${found}`;
  } catch (error) {
    if (error instanceof ExpectedError) return "the adapter's weights could not be looked at";
    throw error;
  }
}
