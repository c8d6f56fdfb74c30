import type { Config } from "../config/schema.ts";
import { type PairTokens, packedTokens } from "../data/pack.ts";
import { InputError, RunTooLargeError } from "../errors.ts";
import { PADDING, padded } from "../ops/matrix.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";
import { type Objective, pairsBelongTogether } from "./objective.ts";

/** WebGPU's limit of workgroups along a dimension, and a row-wise kernel has one for each row. */
const MAX_TOKENS = 65_535;

/** What the data and the adapter demand of a GPU batch. */
export interface TokenBounds {
  /** Packed rows of what must go through together. */
  readonly needed: number;
  /** Rows that the adapter can bind. */
  readonly limit: number;
  /** What asks for `needed`, in words. */
  readonly what: string;
  /** Packed rows of an optimizer step, on average. */
  readonly perStep: number;
}

/**
 * Between what must go through the GPU together, and what keeps every activation within the adapter's binding limit.
 *
 * @param trained those of `pairs` that are trained on
 * @throws InputError when `max_tokens_per_batch` is too small, RunTooLargeError when the adapter's limit is
 */
export function tokenBounds(
  pairs: readonly PairTokens[],
  trained: readonly PairTokens[],
  config: Pick<Config, "max_tokens_per_batch" | "per_device_train_batch_size" | "gradient_accumulation_steps">,
  objective: Objective,
  model: LlamaConfig,
  { bindingLimitBytes }: { readonly bindingLimitBytes: number },
): TokenBounds {
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
    throw new RunTooLargeError(
      `${what} needs ${needed} tokens in one GPU batch, this adapter allows ${limit}; ` +
        `lower max_length${isCoupled ? " or per_device_train_batch_size" : ""}`,
    );
  }
  const asked = config.max_tokens_per_batch;
  if (asked !== undefined && asked < needed) {
    throw new InputError(`max_tokens_per_batch must be at least ${needed}, which ${what} needs, got ${asked}`);
  }
  const pairsPerStep = Math.min(
    trained.length,
    config.per_device_train_batch_size * config.gradient_accumulation_steps,
  );
  const mean = trained.reduce((sum, pair) => sum + packedTokens(pair), 0) / Math.max(1, trained.length);
  return { needed, limit, what, perStep: mean * pairsPerStep };
}
