import { type PairTokens, targetSlots } from "../data/pack.ts";
import type { PairModel } from "../model/pair-model.ts";
import { eachBatch } from "./each-batch.ts";
import { averageMetrics, k3Divergence, type Metrics, mean, microBatchMetrics } from "./metrics.ts";
import { evaluateObjective, type Objective } from "./objective.ts";
import { scoreAll } from "./reference.ts";
import type { TrainingPair } from "./step.ts";

type Answer = "chosen" | "rejected";

export interface EvaluationSettings {
  readonly objective: Objective;
  readonly perDeviceEvalBatchSize: number;
  /** Whether to measure the KL divergence from the reference over the whole vocabulary. */
  readonly evalKl: boolean;
}

/**
 * Loss and metrics of the policy on held-out pairs, averaged as TRL's Trainer does: the loss over pairs, every other
 * metric over evaluation batches without weights. `kl`, measured on demand, is the mean over completion tokens of both
 * answers; `kl/chosen` that of the chosen ones, which where nothing is measured is estimated as in training.
 *
 * @throws the signal's reason when it is aborted
 */
export async function evaluate(
  model: PairModel,
  pairs: readonly TrainingPair[],
  { objective, perDeviceEvalBatchSize, evalKl }: EvaluationSettings,
  signal?: AbortSignal,
): Promise<Metrics> {
  const scores = await scoreAll(model, pairs, "policy", () => signal?.throwIfAborted());
  const divergences = evalKl ? await divergenceOfAll(model, pairs, signal) : null;
  const losses: number[] = [];
  const records: Metrics[] = [];
  for (let first = 0; first < pairs.length; first += perDeviceEvalBatchSize) {
    const end = first + perDeviceEvalBatchSize;
    const batchScores = scores.slice(first, end);
    const references = pairs.slice(first, end).map((pair) => pair.reference);
    const { loss, logps } = evaluateObjective(batchScores, references, objective);
    losses.push(...batchScores.map(() => loss));
    const metrics = microBatchMetrics({ loss, scores: batchScores, references, logps }, objective.beta);
    const measured = divergences?.slice(first, end);
    const kl = measured
      ? {
          kl: mean(measured.flatMap((pair) => [...pair.chosen, ...pair.rejected])),
          "kl/chosen": mean(measured.flatMap(({ chosen }) => [...chosen])),
        }
      : { "kl/chosen": k3Divergence({ scores: batchScores, references }, ["chosen"]) };
    records.push({ ...metrics, ...kl });
  }
  return { loss: mean(losses), ...averageMetrics(records) };
}

/** KL(π ‖ π_ref) at every completion token of each pair. */
async function divergenceOfAll(
  model: PairModel,
  pairs: readonly PairTokens[],
  signal: AbortSignal | undefined,
): Promise<Record<Answer, Float64Array>[]> {
  const found: Record<Answer, Float64Array>[] = [];
  for await (const { batch, results: rows } of eachBatch(pairs, model.maxTokens, (batch) => model.divergence(batch))) {
    signal?.throwIfAborted();
    for (const pair of batch.pairs) {
      const of = (side: Answer) => Float64Array.from(targetSlots(pair, side), (slot) => rows[slot >>> 1]!);
      found.push({ chosen: of("chosen"), rejected: of("rejected") });
    }
  }
  return found;
}
