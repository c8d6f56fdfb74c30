import { type PairTokens, packedTokens } from "../data/pack.ts";
import { DeviceError, InputError } from "../errors.ts";
import { padded } from "../ops/matrix.ts";
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
  batchSize: number,
  objective: Objective,
  model: LlamaConfig,
  options: { maxTokensPerBatch?: number | undefined; bindingLimitBytes: number },
): number {
  const tokens = pairs.map(packedTokens).sort((a, b) => b - a);
  const together = pairsBelongTogether(objective) ? batchSize : 1;
  const needed = tokens.slice(0, together).reduce((sum, count) => sum + count, 0);
  const what =
    together === 1
      ? "the longest pair"
      : `a micro-batch of ${together} pairs, which ${objective.lossTypes.join(" and ")} couples,`;

  const widest = padded(Math.max(model.intermediateSize, model.hiddenSize, model.heads * model.headDim));
  const limit = Math.min(MAX_TOKENS, Math.floor(options.bindingLimitBytes / (4 * widest)));
  if (needed > limit) {
    throw new DeviceError(
      `${what} needs ${needed} tokens in one GPU batch, this adapter allows ${limit}; lower max_length` +
        (together === 1 ? "" : " or per_device_train_batch_size"),
    );
  }
  const asked = options.maxTokensPerBatch;
  if (asked !== undefined && asked < needed) {
    throw new InputError(
      `max_tokens_per_batch must be at least ${needed}, because ${what} needs as many, got ${asked}`,
    );
  }
  return Math.min(limit, asked ?? Math.max(needed, DEFAULT_TOKENS));
}
