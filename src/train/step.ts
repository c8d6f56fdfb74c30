import { type PairTokens, pack, packedTokens, planBatches, targetSlots } from "../data/pack.ts";
import { NonFiniteError } from "../errors.ts";
import type { HeadResults, PairModel } from "../model/pair-model.ts";
import type { MicroBatch } from "./metrics.ts";
import {
  evaluateObjective,
  type Objective,
  type ObjectiveResult,
  type PairLogps,
  pairsBelongTogether,
  type ReferenceLogps,
} from "./objective.ts";
import { type PairScore, scorePairs } from "./scores.ts";

/** A pair ready for training: its tokens and what the reference says of them. */
export interface TrainingPair extends PairTokens {
  readonly reference: ReferenceLogps;
  /** Where the pair comes from, for messages: `pairs.jsonl:17`. */
  readonly place: string;
}

/** Pairs that go through the GPU together, with the weight of their loss in the optimizer step. */
interface Unit {
  readonly microBatch: number;
  readonly pairs: readonly number[];
  readonly weight: number;
}

/** What became of one pair in a step. */
interface PairOutcome {
  readonly score: PairScore;
  readonly logps: PairLogps;
}

/**
 * Forward and backward of one optimizer step: adds the gradient of the mean over micro-batches of each one's loss, which
 * is what TRL takes (a last, smaller micro-batch weighs its pairs more). How pairs are packed into GPU batches is ours to
 * choose and changes the result by rounding only.
 *
 * @param microBatches indexes into `pairs`
 * @returns the loss and what its metrics need, for each micro-batch
 */
export async function accumulateGradients(
  model: PairModel,
  pairs: readonly TrainingPair[],
  microBatches: readonly ArrayLike<number>[],
  objective: Objective,
): Promise<MicroBatch[]> {
  const units = planUnits(microBatches, objective);
  const unitTokens = units.map((unit) => unit.pairs.reduce((sum, pair) => sum + packedTokens(pairs[pair]!), 0));
  const outcomes = new Map<number, PairOutcome>();
  const losses = new Float64Array(microBatches.length);

  for (const batchUnits of planBatches(unitTokens, model.maxTokens)) {
    const inBatch = batchUnits.map((unit) => units[unit]!);
    const numbers = inBatch.flatMap((unit) => [...unit.pairs]);
    const batch = pack(
      numbers.map((pair) => pairs[pair]!),
      numbers,
    );
    const coefficientsOf = (head: HeadResults): Float32Array<ArrayBuffer> => {
      const scores = scorePairs(batch, head, model.vocabSize);
      const coefficients = new Float32Array(batch.targets.length);
      let first = 0;
      for (const unit of inBatch) {
        const unitScores = scores.slice(first, first + unit.pairs.length);
        const references = unit.pairs.map((pair) => pairs[pair]!.reference);
        const result = evaluateObjective(unitScores, references, objective);
        requireFinite(result, unit, pairs);
        losses[unit.microBatch]! += result.loss * unit.weight * microBatches.length;
        for (const [i, pair] of unit.pairs.entries()) {
          outcomes.set(pair, { score: unitScores[i]!, logps: result.logps[i]! });
          for (const side of ["chosen", "rejected"] as const) {
            const gradient = result.gradients[i]![side];
            for (const [t, slot] of targetSlots(batch.pairs[first + i]!, side).entries()) {
              coefficients[slot] = gradient[t]! * unit.weight;
            }
          }
        }
        first += unit.pairs.length;
      }
      return coefficients;
    };
    await model.train(batch, coefficientsOf);
  }

  return microBatches.map((numbers, i) => {
    const members = Array.from(numbers, (pair) => outcomes.get(pair)!);
    return {
      loss: losses[i]!,
      scores: members.map((member) => member.score),
      logps: members.map((member) => member.logps),
      references: Array.from(numbers, (pair) => pairs[pair]!.reference),
    };
  });
}

function requireFinite(result: ObjectiveResult, unit: Unit, pairs: readonly TrainingPair[]): void {
  const places = unit.pairs.map((pair) => pairs[pair]!.place).join(", ");
  for (const [i, { chosen, rejected }] of result.logps.entries()) {
    if (Number.isFinite(chosen) && Number.isFinite(rejected)) continue;
    throw new NonFiniteError(
      `the log-probability of ${pairs[unit.pairs[i]!]!.place} is not finite (chosen ${chosen}, rejected ${rejected})`,
    );
  }
  // The GPU waits meanwhile: no array of all gradients is made.
  const gradientsAreFinite = result.gradients.every(
    ({ chosen, rejected }) => chosen.every(Number.isFinite) && rejected.every(Number.isFinite),
  );
  if (!Number.isFinite(result.loss) || !gradientsAreFinite) {
    throw new NonFiniteError(`the loss of ${places}, or its gradient, is not finite (loss ${result.loss})`);
  }
}

function planUnits(microBatches: readonly ArrayLike<number>[], objective: Objective): Unit[] {
  const together = pairsBelongTogether(objective);
  return microBatches.flatMap((numbers, microBatch): Unit[] => {
    const pairs = Array.from(numbers);
    if (together) return [{ microBatch, pairs, weight: 1 / microBatches.length }];
    return pairs.map((pair) => ({ microBatch, pairs: [pair], weight: 1 / (microBatches.length * pairs.length) }));
  });
}
