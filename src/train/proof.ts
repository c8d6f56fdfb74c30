import { ExpectedError } from "../errors.ts";
import type { MicroBatch } from "./metrics.ts";
import { evaluateObjective, type Objective } from "./objective.ts";

const TOLERANCE = 1e-5;

/**
 * Before any update the adapter is a zero update, so the policy must be the reference: every reward margin 0, and the loss
 * what it is for log-ratios of 0 (ln 2 for `sigmoid`). Where that does not hold, the reference does not belong to this
 * model and data, or the forward pass is wrong, and every later number would be too.
 *
 * @param places where each pair of each micro-batch comes from
 */
export function proveStart(
  microBatches: readonly MicroBatch[],
  objective: Objective,
  places: readonly string[][],
): void {
  for (const [i, { loss, scores, logps }] of microBatches.entries()) {
    for (const [j, pair] of logps.entries()) {
      const margin = objective.beta * (pair.chosen - pair.refChosen - (pair.rejected - pair.refRejected));
      if (Math.abs(margin) <= TOLERANCE) continue;
      throw new ExpectedError(
        `step-0 proof failed: before any update every reward margin must be 0 within ${TOLERANCE}, but ${places[i]![j]} has ${margin}; ` +
          "the reference's log-probabilities do not belong to this model: run with --set reference_cache=false",
        2,
      );
    }
    const own = scores.map(({ chosen, rejected }) => ({ chosen: chosen.tokenLogps, rejected: rejected.tokenLogps }));
    const expected = evaluateObjective(scores, own, objective).loss;
    if (!(Math.abs(loss - expected) <= TOLERANCE)) {
      throw new ExpectedError(
        `step-0 proof failed: before any update the loss must be ${expected} within ${TOLERANCE}, found ${loss}; ` +
          "the reference's log-probabilities do not belong to this model: run with --set reference_cache=false",
        2,
      );
    }
  }
}
