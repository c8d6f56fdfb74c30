import { existsSync } from "node:fs";
import path from "node:path";
import { findModelFolder, type ResolveOptions, resolveModel } from "../../hub/resolve.ts";
import type { LlamaConfig } from "../../weights/llama-config.ts";
import { llamaTensors } from "../../weights/llama-tensors.ts";
import { CONFIG_FILE } from "../../weights/model-folder.ts";
import { PROJECTIONS } from "../../weights/projections.ts";

/** What settings depend on in a model. */
export interface ModelFacts {
  readonly parameters: number;
  /** Of the weights on the GPU, in 16 bits and with the projections in 4. */
  readonly weightsBytes: number;
  readonly weights4BitBytes: number;
  /** Positions that the model was made for. */
  readonly context: number;
}

/** NF4: half a byte, and a float32 scale for each block of 64. */
const NF4_BYTES = 0.5 + 4 / 64;

export function modelFacts(config: LlamaConfig): ModelFacts {
  const sizes = llamaTensors(config).map(({ name, shape }) => ({
    isProjection: PROJECTIONS.some((projection) => name.endsWith(`.${projection}.weight`)),
    elements: shape.reduce((product, size) => product * size, 1),
  }));
  const bytes = (ofProjections: number) =>
    sizes.reduce((sum, { isProjection, elements }) => sum + elements * (isProjection ? ofProjections : 2), 0);
  return {
    parameters: sizes.reduce((sum, { elements }) => sum + elements, 0),
    weightsBytes: bytes(2),
    weights4BitBytes: bytes(NF4_BYTES),
    context: config.maxPositionEmbeddings,
  };
}

/** A folder with a model's config and tokenizer: what is here already, without its weights too, or else downloaded. */
export async function describedModelFolder(reference: string, options: ResolveOptions): Promise<string> {
  const here = await findModelFolder(reference);
  const isDescribed =
    here !== null && [CONFIG_FILE, "tokenizer.json"].every((name) => existsSync(path.join(here, name)));
  return isDescribed ? here : (await resolveModel(reference, options)).folder;
}
