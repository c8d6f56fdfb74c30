import type { PairModel } from "../model/pair-model.ts";
import { averageMetrics, type Metrics, mean, microBatchMetrics } from "./metrics.ts";
import { evaluateObjective, type Objective } from "./objective.ts";
import { scoreAll } from "./reference.ts";
import type { TrainingPair } from "./step.ts";

export interface EvaluationSettings {
  readonly objective: Objective;
  readonly perDeviceEvalBatchSize: number;
}

/**
 * Loss and metrics of the policy on held-out pairs, averaged as TRL's Trainer does: the loss over pairs, every other
 * metric over evaluation batches without weights.
 */
export async function evaluate(
  model: PairModel,
  pairs: readonly TrainingPair[],
  { objective, perDeviceEvalBatchSize }: EvaluationSettings,
): Promise<Metrics> {
  const scores = await scoreAll(model, pairs, "policy");
  const losses: number[] = [];
  const records: Metrics[] = [];
  for (let first = 0; first < pairs.length; first += perDeviceEvalBatchSize) {
    const batchScores = scores.slice(first, first + perDeviceEvalBatchSize);
    const references = pairs.slice(first, first + perDeviceEvalBatchSize).map((pair) => pair.reference);
    const { loss, logps } = evaluateObjective(batchScores, references, objective);
    losses.push(...batchScores.map(() => loss));
    records.push(microBatchMetrics({ loss, scores: batchScores, references, logps }, objective.beta));
  }
  return { loss: mean(losses), ...averageMetrics(records) };
}
