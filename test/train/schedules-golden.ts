import { readFileSync } from "node:fs";
import type { EvalStrategy, LrSchedulerType } from "../../src/config/names.ts";

/** transformers.get_scheduler with a top rate of 3e-4: the rate of each step of the run. */
export type RatesCase = { type: LrSchedulerType; warmup: number; total: number; learningRates: number[] };

/** TrainingArguments.get_warmup_steps of a share of the run. */
export type WarmupCase = { share: number; total: number; steps: number };

/** A run of transformers.Trainer. */
export type RunCase = {
  pairs: number;
  batch: number;
  accumulation: number;
  length: { num_train_epochs: number } | { max_steps: number };
  settings: {
    logging_steps: number;
    save_steps: number;
    eval_strategy: EvalStrategy;
    eval_steps?: number;
    warmup_steps?: number;
    lr_scheduler_type?: LrSchedulerType;
  };
  totalSteps: number;
  events: ["log" | "evaluate" | "save", number][];
  /** The rates of the steps that were logged. */
  learningRates: number[];
};

export const TOP_LEARNING_RATE = 3e-4;

const lines = readFileSync(new URL("schedules.jsonl", import.meta.url), "utf8")
  .trimEnd()
  .split("\n")
  .map((line): object => JSON.parse(line));

export const ratesCases = lines.filter((line): line is RatesCase => "type" in line);
export const warmupCases = lines.filter((line): line is WarmupCase => "steps" in line);
export const runCases = lines.filter((line): line is RunCase => "events" in line);
