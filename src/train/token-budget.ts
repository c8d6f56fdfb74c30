import type { Config } from "../config/schema.ts";
import { type PairTokens, packedTokens } from "../data/pack.ts";
import { DeviceError, InputError } from "../errors.ts";
import { PADDING, padded } from "../ops/matrix.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";
import { type Objective, pairsBelongTogether } from "./objective.ts";

/** Packed rows that a GPU batch holds unless the config or a longer pair asks for more. */
const DEFAULT_TOKENS = 2048;
/** WebGPU's limit of workgroups along a dimension, and a row-wise kernel has one for each row. */
const MAX_TOKENS = 65_535;

/**
 * How many packed rows a GPU batch may have: enough for what must go through together, and no more than keeps every
 * activation within the adapter's binding limit.
 *
 * @throws InputError when `max_tokens_per_batch` is too small, DeviceError when the adapter's limit is
 */
export function tokenBudget(
  pairs: readonly PairTokens[],
  config: Pick<Config, "max_tokens_per_batch" | "per_device_train_batch_size">,
  objective: Objective,
  model: LlamaConfig,
  { bindingLimitBytes }: { readonly bindingLimitBytes: number },
): number {
  const isCoupled = pairsBelongTogether(objective);
  const together = isCoupled ? config.per_device_train_batch_size : 1;
  const tokens = pairs.map(packedTokens).sort((a, b) => b - a);
  const needed = tokens.slice(0, together).reduce((sum, count) => sum + count, 0);
  const what = isCoupled
    ? `a micro-batch of ${together} pairs, which ${objective.lossTypes.join(" and ")} must see together,`
    : "the longest pair";

  const widest = padded(Math.max(model.intermediateSize, model.hiddenSize, model.heads * model.headDim));
  // Matrices have a multiple of 8 rows.
  const bindable = Math.floor(bindingLimitBytes / (4 * widest) / PADDING) * PADDING;
  const limit = Math.min(MAX_TOKENS, bindable);
  if (needed > limit) {
    throw new DeviceError(
      `${what} needs ${needed} tokens in one GPU batch, this adapter allows ${limit}; ` +
        `lower max_length${isCoupled ? " or per_device_train_batch_size" : ""}`,
    );
  }
  const asked = config.max_tokens_per_batch;
  if (asked !== undefined && asked < needed) {
    throw new InputError(`max_tokens_per_batch must be at least ${needed}, which ${what} needs, got ${asked}`);
  }
  return Math.min(limit, asked ?? Math.max(needed, DEFAULT_TOKENS));
}
