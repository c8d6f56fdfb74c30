import type { Config } from "../config/schema.ts";
import { positionsFor } from "../generate/question.ts";
import { storedFormat } from "../platform/load-base.ts";
import { type ChosenBatch, chooseBatch } from "./choose-batch.ts";
import { longestSequence, type PreparedRun } from "./prepare-run.ts";
import type { Session } from "./session.ts";
import { objectiveOf, optimizerSettingsOf } from "./settings.ts";
import type { RunShape } from "./simulate.ts";
import { tokenBounds } from "./token-budget.ts";

/** Of a GPU's memory, what a plan may take: the driver needs some, and memory is handed out in pieces. */
export const USABLE_SHARE = 0.96;

/** What a user has decided of a GPU batch. */
export function askedOf(config: Config) {
  return { maxTokens: config.max_tokens_per_batch, checkpointing: config.gradient_checkpointing };
}

/** Chooses the GPU batches of a run. @throws RunTooLargeError where it does not fit the device, with what to change */
export function planBatch(
  prepared: PreparedRun,
  { opened: { gpu, adapter }, precision, memoryBytes }: Pick<Session, "opened" | "precision" | "memoryBytes">,
): ChosenBatch {
  const { config, folder, data, start, question } = prepared;
  const run: RunShape = {
    adapter: {
      bindingLimitBytes: gpu.bindingLimitBytes,
      subgroupSize: adapter.subgroupMaxSize || 32,
      fragments: gpu.fragments,
    },
    model: folder.config,
    formatOf: (name) => storedFormat(folder, name, precision),
    in4Bit: config.load_in_4bit,
    lora: start.adapter,
    optimizer: optimizerSettingsOf(config),
    maxPositions: longestSequence(data),
    divergence: config.eval_kl,
    samplePositions: question && positionsFor(question.promptIds.length, question.maxNewTokens, folder.config),
    merges: config.export.merged_16bit,
  };
  const all = [...data.train, ...data.evaluation];
  const bounds = tokenBounds(all, data.train, config, objectiveOf(config), folder.config, gpu);
  return chooseBatch(run, bounds, askedOf(config), memoryBytes === null ? null : memoryBytes * USABLE_SHARE);
}
