import { type PairLogps, type ReferenceLogps, total } from "./objective.ts";
import type { PairScore } from "./scores.ts";

/** Metrics of DPO under TRL's names; ours is `kl`. */
export type Metrics = Record<string, number>;

/** What one micro-batch contributes to a record. */
export interface MicroBatch {
  readonly loss: number;
  readonly scores: readonly PairScore[];
  readonly references: readonly ReferenceLogps[];
  readonly logps: readonly PairLogps[];
}

/**
 * The metrics of one micro-batch exactly as TRL's `_compute_loss` logs them, in its order.
 *
 * - rewards: β (log π − log π_ref), Rafailov et al. 2023, section 4; accuracies count chosen > rejected, so ties lose.
 * - entropy: nats per completion token of both answers; logits: the mean logit over the vocabulary per completion token.
 * - mean_token_accuracy: share of the chosen answers' tokens that were the most likely one.
 */
export function microBatchMetrics({ scores, logps }: MicroBatch, beta: number): Metrics {
  const chosen = scores.map((pair) => pair.chosen);
  const rejected = scores.map((pair) => pair.rejected);
  const tokens = (answers: typeof chosen) => sumOf(answers, (answer) => answer.tokenLogps.length);
  const chosenRewards = logps.map((pair) => beta * (pair.chosen - pair.refChosen));
  const rejectedRewards = logps.map((pair) => beta * (pair.rejected - pair.refRejected));
  const margins = chosenRewards.map((reward, i) => reward - rejectedRewards[i]!);
  return {
    entropy: sumOf([...chosen, ...rejected], (answer) => answer.entropySum) / tokens([...chosen, ...rejected]),
    "logits/chosen": sumOf(chosen, (answer) => answer.meanLogitSum) / tokens(chosen),
    "logits/rejected": sumOf(rejected, (answer) => answer.meanLogitSum) / tokens(rejected),
    mean_token_accuracy: sumOf(chosen, (answer) => answer.hits) / tokens(chosen),
    "rewards/chosen": mean(chosenRewards),
    "rewards/rejected": mean(rejectedRewards),
    "rewards/accuracies": mean(margins.map((margin) => (margin > 0 ? 1 : 0))),
    "rewards/margins": mean(margins),
    "logps/chosen": mean(logps.map((pair) => pair.chosen)),
    "logps/rejected": mean(logps.map((pair) => pair.rejected)),
  };
}

/**
 * How far the policy has moved from the reference: Schulman's k3 estimate, the mean over completion tokens of
 * r − 1 − ln r with r = π_ref / π (http://joschu.net/blog/kl-approx.html). It is never negative, and 0 only where they
 * agree. The tokens are the data's rather than samples of π, so read it as a distance along the data.
 *
 * @param answers whose tokens count
 */
export function k3Divergence(
  { scores, references }: Pick<MicroBatch, "scores" | "references">,
  answers: readonly ("chosen" | "rejected")[] = ["chosen", "rejected"],
): number {
  let sum = 0;
  let tokens = 0;
  for (const [i, pair] of scores.entries()) {
    for (const answer of answers) {
      const policy = pair[answer].tokenLogps;
      const base = references[i]![answer];
      for (const [t, logp] of policy.entries()) {
        const logRatio = base[t]! - logp;
        sum += Math.expm1(logRatio) - logRatio;
      }
      tokens += policy.length;
    }
  }
  return sum / tokens;
}

/** TRL averages over micro-batches without weights, whatever their sizes. */
export function averageMetrics(records: readonly Metrics[]): Metrics {
  const names = Object.keys(records[0] ?? {});
  return Object.fromEntries(names.map((name) => [name, mean(records.map((record) => record[name]!))]));
}

export function mean(values: readonly number[]): number {
  return sumOf(values, (value) => value) / values.length;
}

function sumOf<T>(items: readonly T[], toNumber: (item: T) => number): number {
  return total(Float64Array.from(items, toNumber));
}
