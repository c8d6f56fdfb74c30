import { type PackedBatch, type PackedPair, targetSlots } from "../data/pack.ts";
import type { HeadResults } from "../model/pair-model.ts";

/** What the model says of one answer. */
export interface AnswerScore {
  /** (completion tokens) log-probabilities in nats. */
  readonly tokenLogps: Float64Array;
  /** Σ over completion tokens of the entropy of the distribution that the token was predicted from, in nats. */
  readonly entropySum: number;
  /** Σ over completion tokens of the mean logit over the vocabulary. */
  readonly meanLogitSum: number;
  /** Completion tokens that were the most likely token. */
  readonly hits: number;
}

export interface PairScore {
  readonly chosen: AnswerScore;
  readonly rejected: AnswerScore;
}

/** The scores of a batch's pairs, in the batch's order, from what the head found for each row. */
export function scorePairs(batch: PackedBatch, head: HeadResults, vocabSize: number): PairScore[] {
  return batch.pairs.map((pair) => ({
    chosen: scoreAnswer(batch, pair, "chosen", head, vocabSize),
    rejected: scoreAnswer(batch, pair, "rejected", head, vocabSize),
  }));
}

function scoreAnswer(
  { targets }: PackedBatch,
  pair: PackedPair,
  side: "chosen" | "rejected",
  { state, best, targetLogits }: HeadResults,
  vocabSize: number,
): AnswerScore {
  const slots = targetSlots(pair, side);
  const tokenLogps = new Float64Array(slots.length);
  let entropySum = 0;
  let meanLogitSum = 0;
  let hits = 0;
  for (const [i, slot] of slots.entries()) {
    const row = slot >>> 1;
    // With m the largest logit, S = Σ exp(l − m) and S₁ = Σ exp(l − m)(l − m):
    // log p = l − m − ln S,  −Σ p ln p = ln S − S₁ / S.
    const m = state[4 * row]!;
    const s = state[4 * row + 1]!;
    const s1 = state[4 * row + 2]!;
    const logS = Math.log(s);
    tokenLogps[i] = targetLogits[slot]! - m - logS;
    entropySum += logS - s1 / s;
    meanLogitSum += state[4 * row + 3]! / vocabSize;
    if (best[row] === targets[slot]) hits++;
  }
  return { tokenLogps, entropySum, meanLogitSum, hits };
}
