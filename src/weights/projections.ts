import type { LlamaConfig } from "./llama-config.ts";

/** The seven linear layers of a Llama block, all of which LoRA can adapt, in the order in which a block uses them. */
export const PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"] as const;

export type Projection = (typeof PROJECTIONS)[number];

export function isProjection(name: string): name is Projection {
  return (PROJECTIONS as readonly string[]).includes(name);
}

/** The submodule of a block that holds a projection, as in tensor names. */
export function projectionModule(projection: Projection): "self_attn" | "mlp" {
  switch (projection) {
    case "q_proj":
    case "k_proj":
    case "v_proj":
    case "o_proj":
      return "self_attn";
    case "gate_proj":
    case "up_proj":
    case "down_proj":
      return "mlp";
  }
}

/** Features that a projection takes and gives. Its weight is stored as (outFeatures, inFeatures), row-major. */
export function projectionSize(
  config: LlamaConfig,
  projection: Projection,
): { readonly inFeatures: number; readonly outFeatures: number } {
  const { hiddenSize, intermediateSize } = config;
  const querySize = config.heads * config.headDim;
  const keyValueSize = config.keyValueHeads * config.headDim;
  switch (projection) {
    case "q_proj":
      return { inFeatures: hiddenSize, outFeatures: querySize };
    case "k_proj":
    case "v_proj":
      return { inFeatures: hiddenSize, outFeatures: keyValueSize };
    case "o_proj":
      return { inFeatures: querySize, outFeatures: hiddenSize };
    case "gate_proj":
    case "up_proj":
      return { inFeatures: hiddenSize, outFeatures: intermediateSize };
    case "down_proj":
      return { inFeatures: intermediateSize, outFeatures: hiddenSize };
  }
}
