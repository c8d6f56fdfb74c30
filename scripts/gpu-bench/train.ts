import { median } from "../bench/measure.ts";
import type { CardUse } from "./nvidia.ts";
import { type BenchPairs, PAIRS_PER_STEP } from "./pairs.ts";

// dpo-train's own run, watched from outside: the clock is this process's, started and stopped by the lines it prints.

/** Steps until a run is at its pace. */
export const WARM_UP_STEPS = 2;

export interface TrainResult extends StepRates {
  readonly precision: string;
  /** Seconds of steps 2, 3 and so on: the first begins before it can be seen. */
  readonly all_step_seconds: readonly number[];
  /** Steps whose kernels were timed one by one, which takes longer: not in `step_seconds`. */
  readonly profiled_steps: readonly [first: number, last: number] | null;
  readonly reference_seconds: number | null;
  readonly load_seconds: number | null;
  readonly compile_seconds: number | null;
  readonly peak_bytes: number | null;
  readonly max_tokens_per_batch: number | null;
  readonly card: CardUse | null;
  readonly losses: readonly number[];
  readonly profile: unknown;
}

/** What a step's median time says. Packed tokens are those computed; else a prompt counts with both answers. */
export interface StepRates {
  readonly step_seconds: number;
  readonly timed_steps: number;
  readonly pairs_per_second: number;
  readonly packed_tokens_per_second: number;
  readonly tokens_per_second_prompts_twice: number;
}

/** Null where no step was timed. */
export function ratesOf(timed: readonly number[], { tokensPerStep }: BenchPairs): StepRates | null {
  if (timed.length === 0) return null;
  const seconds = median(timed);
  return {
    step_seconds: seconds,
    timed_steps: timed.length,
    pairs_per_second: PAIRS_PER_STEP / seconds,
    packed_tokens_per_second: tokensPerStep.packed / seconds,
    tokens_per_second_prompts_twice: tokensPerStep.promptsTwice / seconds,
  };
}

/** Takes the time of each line `step 3/8 …`. */
export function stepClock(): { readonly onLine: (line: string, nowMs: number) => void; readonly ends: () => number[] } {
  const ends: number[] = [];
  return {
    onLine: (line, nowMs) => {
      if (/^step +\d+\/\d+ /.test(line)) ends.push(nowMs);
    },
    ends: () => ends,
  };
}

/** Seconds of steps 2, 3 and so on, from the ends of all steps in milliseconds. */
export function stepSeconds(endsMs: readonly number[]): number[] {
  return endsMs.slice(1).map((endMs, i) => (endMs - endsMs[i]!) / 1000);
}

/** Of the seconds of steps 2, 3 and so on: those of steps at pace, and not profiled. */
export function timedSteps(
  seconds: readonly number[],
  profiled: readonly [first: number, last: number] | null,
): number[] {
  return seconds.filter((_, i) => {
    const step = i + 2;
    return step > WARM_UP_STEPS && !(profiled && step >= profiled[0] && step <= profiled[1]);
  });
}

/** The book's recipe without evaluation, sample and merged model, on these files. `--set` arguments for configs/twin.yaml. */
export function recipeSettings(model: string, dataset: string, output: string, steps: number): string[] {
  const off = ["test_size", "eval_strategy", "eval_steps", "per_device_eval_batch_size", "sample_prompt"];
  const without = [...off, "sample_max_new_tokens", "export.dtype", "export.max_shard_size"];
  return [
    `model=${JSON.stringify(model)}`,
    `dataset=${JSON.stringify(dataset)}`,
    `output_dir=${JSON.stringify(output)}`,
    `max_steps=${steps}`,
    "shuffle=false",
    "reference_cache=false",
    "export.merged_16bit=false",
    ...without.map((key) => `${key}=null`),
  ].flatMap((setting) => ["--set", setting]);
}
