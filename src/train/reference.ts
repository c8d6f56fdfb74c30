import type { PairTokens } from "../data/pack.ts";
import { NonFiniteError } from "../errors.ts";
import type { PairModel } from "../model/pair-model.ts";
import { eachBatch } from "./each-batch.ts";
import type { ReferenceLogps } from "./objective.ts";
import { type PairScore, scorePairs } from "./scores.ts";

/**
 * The reference's log-probability of every completion token: the base without adapters, so computed once for a run and
 * shared by every run on the same model and data (they depend on neither β, the learning rate, the rank nor the seed).
 *
 * @param onBatch told the number of pairs done so far
 * @throws NonFiniteError
 */
export async function computeReference(
  model: PairModel,
  pairs: readonly PairTokens[],
  onBatch: (pairsDone: number) => void = () => {},
): Promise<ReferenceLogps[]> {
  const scores = await scoreAll(model, pairs, "reference", onBatch);
  return scores.map(({ chosen, rejected }, pair) => {
    if (![...chosen.tokenLogps, ...rejected.tokenLogps].every(Number.isFinite)) {
      throw new NonFiniteError(
        `the base model's log-probabilities of pair ${pair} are not finite: its weights are damaged, or overflow float32`,
      );
    }
    return { chosen: chosen.tokenLogps, rejected: rejected.tokenLogps };
  });
}

/** The scores of pairs in their order, without gradients. */
export async function scoreAll(
  model: PairModel,
  pairs: readonly PairTokens[],
  who: "policy" | "reference",
  onBatch: (pairsDone: number) => void = () => {},
): Promise<PairScore[]> {
  const scores: PairScore[] = [];
  for await (const { batch, results } of eachBatch(pairs, model.maxTokens, (batch) => model.score(batch, who))) {
    scores.push(...scorePairs(batch, results, model.vocabSize));
    onBatch(scores.length);
  }
  return scores;
}
