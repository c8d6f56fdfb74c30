import type { Config } from "../config/schema.ts";
import { optimizerSteps, scheduleLength } from "../data/microbatches.ts";
import { pack, packedTokens, planBatches } from "../data/pack.ts";
import { positionsFor } from "../generate/question.ts";
import type { PlannedAdapter } from "../gpu/planning-gpu.ts";
import type { WeightFormat } from "../ops/matrix.ts";
import { type ChosenBatch, chooseBatch } from "../train/choose-batch.ts";
import { askedOf, USABLE_SHARE } from "../train/plan-batch.ts";
import { loraSettingsOf, objectiveOf, optimizerSettingsOf, orderOf } from "../train/settings.ts";
import type { RunShape } from "../train/simulate.ts";
import { tokenBounds } from "../train/token-budget.ts";
import { llamaTensors } from "../weights/llama-tensors.ts";
import type { PlanSources } from "./sources.ts";

/** What a run will take, known before it. */
export interface Plan {
  readonly modelName: string;
  readonly parameters: number;
  readonly precision: "f32" | "f16";
  readonly assumptions: readonly string[];
  readonly chosen: ChosenBatch;
  readonly pairs: number;
  readonly evaluationPairs: number;
  readonly steps: number;
  /** Means over the first epoch's steps: packed rows, the same with each prompt counted twice, GPU batches, operations. */
  readonly perStep: {
    readonly tokens: number;
    readonly unsharedTokens: number;
    readonly batches: number;
    readonly flops: number;
  };
}

export interface PlanOptions {
  readonly adapter: PlannedAdapter;
  readonly precision: "f32" | "f16";
  /** What the run may take; null where nobody knows. */
  readonly memoryBytes: number | null;
}

/** Optimizer steps whose operations are counted: their mean is steady by then. */
const COUNTED_STEPS = 64;

/** @throws DeviceError where the run does not fit, with what to change */
export function makePlan(config: Config, sources: PlanSources, options: PlanOptions): Plan {
  const { model, train, evaluation, samplePromptTokens } = sources;
  const { adapter, precision, memoryBytes } = options;
  const all = [...train, ...evaluation];
  const run: RunShape = {
    adapter,
    model,
    formatOf: () => weightFormat(precision, model.dtype),
    in4Bit: config.load_in_4bit,
    lora: loraSettingsOf(config),
    optimizer: optimizerSettingsOf(config),
    maxPositions: longest(all),
    divergence: config.eval_kl,
    samplePositions:
      samplePromptTokens === null ? null : positionsFor(samplePromptTokens, config.sample_max_new_tokens, model),
    merges: config.export.merged_16bit,
  };
  const order = orderOf(config, train.length);
  const length = scheduleLength(order);
  const bounds = tokenBounds(all, train, config, objectiveOf(config), model, adapter);
  const usableBytes = memoryBytes === null ? null : memoryBytes * USABLE_SHARE;
  const chosen = chooseBatch(run, bounds, askedOf(config), usableBytes);

  const counted = { tokens: 0, unsharedTokens: 0, batches: 0, flops: 0 };
  const steps = [
    ...optimizerSteps({ ...order, maxSteps: Math.min(length.totalSteps, length.stepsPerEpoch, COUNTED_STEPS) }),
  ];
  for (const { microBatches } of steps) {
    const pairs = microBatches.flatMap((numbers) => Array.from(numbers, (pair) => train[pair]!));
    counted.tokens += pairs.reduce((sum, pair) => sum + packedTokens(pair), 0);
    counted.unsharedTokens += pairs.reduce((sum, pair) => sum + packedTokens(pair) + pair.promptIds.length, 0);
    for (const numbers of planBatches(pairs.map(packedTokens), chosen.choice.maxTokens)) {
      counted.batches++;
      const batch = numbers.map((number) => pairs[number]!);
      counted.flops += chosen.simulation.trainFlops(pack(batch, numbers));
    }
  }
  const mean = (sum: number) => sum / Math.max(1, steps.length);
  return {
    modelName: sources.modelName,
    parameters: llamaTensors(model).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
    precision,
    assumptions: sources.assumptions,
    chosen,
    pairs: train.length,
    evaluationPairs: evaluation.length,
    steps: length.totalSteps,
    perStep: {
      tokens: mean(counted.tokens),
      unsharedTokens: mean(counted.unsharedTokens),
      batches: mean(counted.batches),
      flops: mean(counted.flops),
    },
  };
}

function weightFormat(precision: "f32" | "f16", dtype: string | null): WeightFormat {
  if (precision === "f16") return "f16";
  return dtype === "float16" || dtype === "float32" ? "f32" : "bf16";
}

function longest(
  pairs: readonly { promptIds: ArrayLike<number>; chosenIds: ArrayLike<number>; rejectedIds: ArrayLike<number> }[],
): number {
  return pairs.reduce(
    (most, { promptIds, chosenIds, rejectedIds }) =>
      Math.max(most, promptIds.length + Math.max(chosenIds.length, rejectedIds.length)),
    1,
  );
}
