import { expect } from "vitest";
import { evalRecords, type GoldenTensor, type LogRecord, type OracleExample, trainRecords } from "../golden/read.ts";
import { absoluteError, relativeError } from "../numbers.ts";
import type { KeptReference } from "./whole-run.ts";

// How near a run has to come to TRL's in float32 on the CPU: in losses and metrics, weights, and the reference.

/**
 * Absolute up to a loss of 1, relative above it. The losses of sppo_hard are about 50, and there TRL in float32 is itself
 * 2e-4 from TRL in float64: at step 2 of losses.json 45.81482 instead of 45.81503.
 */
const LOSS_TOLERANCE = 1e-4;
/** Of the mean difference of a run's losses, likewise: no drift to one side. */
const MEAN_LOSS_TOLERANCE = 1e-5;
/** Relative. */
const GRAD_NORM_TOLERANCE = 1e-3;
/** Absolute, of the other metrics in records of training and of evaluation. */
const TOLERANCES: Readonly<Record<string, number>> = {
  "rewards/chosen": 2e-3,
  "rewards/rejected": 2e-3,
  "rewards/margins": 2e-3,
  "logps/chosen": 2e-3,
  "logps/rejected": 2e-3,
  entropy: 1e-5,
  "logits/chosen": 1e-5,
  "logits/rejected": 1e-5,
  // Ratios of whole numbers, which TRL rounds to float32.
  "rewards/accuracies": 1e-7,
  mean_token_accuracy: 1e-7,
  // The same arithmetic in float64.
  learning_rate: 1e-17,
  epoch: 1e-15,
  num_tokens: 0,
  step: 0,
};
/** Relative by norm, of each tensor and of all together. */
const ADAPTER_TOLERANCE = 1e-4;
/** Absolute, of the log-probability of a token and of an answer. */
const TOKEN_LOGP_TOLERANCE = 1e-4;
const ANSWER_LOGP_TOLERANCE = 2e-3;

/** Metrics that are ours alone. */
const OURS = ["kl", "eval_kl", "eval_kl/chosen"];

type Tensors = ReadonlyMap<string, GoldenTensor>;

/** TRL's records of steps and evaluations: all but the summary at the end. */
export function loggedSteps(log: readonly LogRecord[]): LogRecord[] {
  const logged = new Set([...trainRecords(log), ...evalRecords(log)]);
  return log.filter((record) => logged.has(record));
}

/** Requires the same records in the same order with the same names, and every number near TRL's. */
export function expectLikeTrl(actual: readonly LogRecord[], expected: readonly LogRecord[]): void {
  expect(actual.map(namesOf)).toEqual(expected.map(namesOf));
  for (const [i, record] of expected.entries()) {
    for (const [name, value] of Object.entries(record)) {
      const found = actual[i]![name]!;
      const message = `${name} at step ${record.step} is ${found}, TRL has ${value}`;
      expect(Math.abs(found - value), message).toBeLessThanOrEqual(toleranceOf(name, value));
    }
  }
  const meanLoss = (log: readonly LogRecord[]) => mean(trainRecords(log).map((record) => record.loss!));
  const drift = Math.abs(meanLoss(actual) - meanLoss(expected));
  expect(drift, "difference of the mean losses").toBeLessThan(MEAN_LOSS_TOLERANCE * Math.max(1, meanLoss(expected)));
}

function namesOf(record: LogRecord): string[] {
  return Object.keys(record)
    .filter((name) => !OURS.includes(name))
    .sort();
}

function toleranceOf(name: string, value: number): number {
  const metric = name.replace(/^eval_/, "");
  if (metric === "loss") return LOSS_TOLERANCE * Math.max(1, Math.abs(value));
  if (metric === "grad_norm") return GRAD_NORM_TOLERANCE * value;
  return TOLERANCES[metric]!;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Requires the same tensors, each near TRL's, and all of them together. */
export function expectAdapterLikeTrl(actual: Tensors, expected: Tensors): void {
  const names = [...expected.keys()].sort();
  expect([...actual.keys()].sort()).toEqual(names);
  for (const name of names) {
    const [found, wanted] = [actual.get(name)!, expected.get(name)!];
    expect(found.shape, name).toEqual(wanted.shape);
    expect(relativeError(found.data, wanted.data), name).toBeLessThan(ADAPTER_TOLERANCE);
  }
  const whole = (tensors: Tensors) => names.flatMap((name) => [...tensors.get(name)!.data]);
  expect(relativeError(whole(actual), whole(expected)), "the adapter").toBeLessThan(ADAPTER_TOLERANCE);
}

/**
 * Requires the reference's log-probabilities of every answer, cut to `maxLength` with its prompt, and of every token
 * where TRL's were recorded.
 */
export function expectReferenceLikeTrl(
  actual: KeptReference,
  examples: readonly OracleExample[],
  maxLength: number,
): void {
  for (const side of ["chosen", "rejected"] as const) {
    let first = 0;
    for (const [i, example] of examples.entries()) {
      const length = Math.min(example[`${side}_ids`].length, maxLength - example.prompt_ids.length);
      const logps = actual[side].subarray(first, first + length);
      first += length;
      const answer = `${side} answer of pair ${i}`;
      const sum = logps.reduce((total, logp) => total + logp, 0);
      expect(Math.abs(sum - example[`ref_${side}_logps`]), answer).toBeLessThan(ANSWER_LOGP_TOLERANCE);
      const tokens = example[`ref_${side}_token_logps`];
      if (tokens) expect(absoluteError(logps, tokens), answer).toBeLessThan(TOKEN_LOGP_TOLERANCE);
    }
    expect(actual[side].length, side).toBe(first);
  }
}
