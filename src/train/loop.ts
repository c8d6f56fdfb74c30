import { optimizerSteps, type ScheduleOptions } from "../data/microbatches.ts";
import { NonFiniteError } from "../errors.ts";
import type { PairModel } from "../model/pair-model.ts";
import type { Saver } from "./checkpoint/saver.ts";
import { type EvaluationSettings, evaluate } from "./evaluate.ts";
import { averageMetrics, k3Divergence, type Metrics, type MicroBatch, mean, microBatchMetrics } from "./metrics.ts";
import type { Objective } from "./objective.ts";
import type { Optimizer } from "./optimizer.ts";
import { proveStart } from "./proof.ts";
import { type LrSchedule, learningRateAt } from "./schedule.ts";
import { accumulateGradients, type TrainingPair } from "./step.ts";
import { type EventPlan, eventsAfter } from "./when.ts";

/** One line of metrics.jsonl. Nothing in it depends on the clock, so that equal runs give equal files. */
export type LogRecord = { step: number; epoch: number } & Metrics;

/** An optimizer step that is done, for a progress line. */
export interface StepReport {
  readonly step: number;
  readonly record: LogRecord;
  /** Pairs of this step. */
  readonly pairs: number;
  /** Tokens of this step as TRL counts them: prompts on both sides. */
  readonly tokens: number;
}

/** Where the loop stands between two steps: with the adapter and the optimizer's state all that its rest depends on. */
export interface LoopState {
  /** The last step done, and the epoch that it logged. */
  readonly step: number;
  readonly epoch: number;
  /** Tokens of all steps so far, as TRL counts them. */
  readonly tokens: number;
  /** Of the steps that the next record will average. */
  readonly sinceLog: { readonly metrics: readonly Metrics[]; readonly losses: readonly number[] };
  /** Whether the evaluation after this step is still to be made. */
  readonly evaluationIsDue: boolean;
}

/** Why a run is at rest before its last step. */
export type Stop =
  | { readonly status: "stopped"; readonly reason: string }
  /** It waits for its turn, and goes on from its checkpoint. */
  | { readonly status: "paused" };

export interface LoopOptions {
  readonly model: PairModel;
  readonly optimizer: Optimizer;
  readonly pairs: readonly TrainingPair[];
  readonly evalPairs: readonly TrainingPair[];
  readonly evaluation: Omit<EvaluationSettings, "objective">;
  readonly objective: Objective;
  readonly order: ScheduleOptions;
  readonly schedule: LrSchedule;
  readonly events: EventPlan;
  /** Whether the adapter starts as a zero update, so that step 1 must find the reference itself. */
  readonly startsAtReference: boolean;
  /** Called before anything of a step is sent to the GPU. */
  readonly onStepStart?: ((step: number) => void) | undefined;
  readonly onStep: (report: StepReport) => void;
  readonly onRecord: (record: LogRecord) => Promise<void> | void;
  /** Asked after each evaluation but the last: whether the run should end there; null to go on. */
  readonly shouldStop?: ((record: LogRecord) => Promise<Stop | null>) | undefined;
  /** Where to continue, the adapter and the optimizer being there already. */
  readonly resumed?: LoopState | undefined;
  /** Without it nothing is saved. */
  readonly saver?: Saver | undefined;
  /** Half a sentence on whether the adapter's weights are finite, for the message of a step that is not. */
  readonly describeWeights?: (() => Promise<string>) | undefined;
  /** Ends the run when it is aborted: after the step at hand, or in the middle of an evaluation. */
  readonly signal?: AbortSignal;
}

/**
 * Trains. A step's record waits for its gradient norm while the GPU works on the next step; that norm is looked at before
 * the next update, so nothing is built on an update that was not applied.
 *
 * A checkpoint is written while the GPU works on the next step's gradients, and is on the disk before their update.
 *
 * @returns how it was stopped before its last step, null where it was not
 * @throws NonFiniteError before an update that a non-finite loss or gradient would spoil; the signal's reason once what
 *   is done has been recorded
 */
export async function trainLoop(options: LoopOptions): Promise<Stop | null> {
  const { model, optimizer, pairs, evalPairs, objective, events, resumed, saver, signal } = options;
  let stopped: Stop | null = null;
  const sinceLog = { metrics: [...(resumed?.sinceLog.metrics ?? [])], losses: [...(resumed?.sinceLog.losses ?? [])] };
  let done: Omit<LoopState, "sinceLog"> | null = resumed ?? null;
  let tokensSoFar = resumed?.tokens ?? 0;
  let reported = Promise.resolve();
  let durable = Promise.resolve();
  let savedStep = resumed?.step ?? 0;

  const save = async () => {
    if (!saver || !done || done.step === savedStep) return;
    savedStep = done.step;
    ({ durable } = await saver.save({
      ...done,
      sinceLog: { metrics: [...sinceLog.metrics], losses: [...sinceLog.losses] },
    }));
  };
  const evaluateNow = async () => {
    const { step, epoch, tokens } = done!;
    const found = await evaluate(model, evalPairs, { objective, ...options.evaluation }, signal);
    const prefixed = Object.entries(found).map(([name, value]) => [`eval_${name}`, value]);
    const record: LogRecord = { step, epoch, ...Object.fromEntries(prefixed), eval_num_tokens: tokens };
    await options.onRecord(record);
    done = { ...done!, evaluationIsDue: false };
    if (step < events.totalSteps) stopped = (await options.shouldStop?.(record)) ?? null;
  };

  try {
    if (resumed?.evaluationIsDue) {
      await evaluateNow();
      savedStep = 0; // What was saved of this step lacks the evaluation.
    }
    for (const { step, epoch, microBatches } of optimizerSteps(options.order, resumed?.step)) {
      if (signal?.aborted || stopped !== null) break;
      options.onStepStart?.(step);
      const results = await inStep(step, options, () => accumulateGradients(model, pairs, microBatches, objective));
      if (step === 1 && options.startsAtReference) proveStart(results, objective, namesOf(pairs, microBatches));
      await reported;
      await durable; // While it is written, the GPU works on the gradients; nothing is built on what may not be kept.

      const learningRate = learningRateAt(step - 1, options.schedule);
      const update = optimizer.update(step, learningRate);
      const stepTokens = microBatches.reduce((sum, batch) => sum + tokensOf(pairs, batch), 0);
      tokensSoFar += stepTokens;
      const numTokens = tokensSoFar;
      const loss = mean(results.map((result) => result.loss));
      const metrics = results.map((result) => ({
        ...microBatchMetrics(result, objective.beta),
        kl: k3Divergence(result),
      }));
      const { log, evaluate: evaluationIsDue, save: saveIsDue } = eventsAfter(step, events);

      reported = update.then(async ({ gradNorm, applied }) => {
        if (!applied) {
          const places = listPlaces(namesOf(pairs, microBatches).flat());
          throw new NonFiniteError(
            `step ${step}: the gradient is not finite, first in ${await optimizer.nonFiniteGradient()} (norm ${gradNorm}, of the pairs ${places}); nothing was updated`,
          );
        }
        sinceLog.metrics.push(...metrics);
        sinceLog.losses.push(loss);
        const record = (of: { losses: number[]; metrics: Metrics[] }): LogRecord => ({
          step,
          epoch,
          loss: mean(of.losses),
          grad_norm: gradNorm,
          learning_rate: learningRate,
          num_tokens: numTokens,
          ...averageMetrics(of.metrics),
        });
        const pairCount = microBatches.reduce((sum, batch) => sum + batch.length, 0);
        options.onStep({ step, record: record({ losses: [loss], metrics }), pairs: pairCount, tokens: stepTokens });
        if (log) {
          await options.onRecord(record(sinceLog));
          sinceLog.metrics.length = 0;
          sinceLog.losses.length = 0;
        }
        done = { step, epoch, tokens: numTokens, evaluationIsDue };
      });
      reported.catch(() => {}); // Thrown where it is awaited.

      if (evaluationIsDue) {
        await reported;
        await evaluateNow();
      }
      if (saveIsDue || saver?.isOverdue()) {
        await reported;
        await save();
      }
    }
    await reported;
  } catch (error) {
    if (error !== signal?.reason) throw error;
  } finally {
    await reported.catch(() => {}); // What is done is recorded, also where the next step fails.
    await durable.catch(() => {});
  }
  await reported;
  if (signal?.aborted || stopped !== null) await save();
  await durable;
  signal?.throwIfAborted();
  return stopped;
}

/** Says in which step something was not finite. */
async function inStep(
  step: number,
  { describeWeights }: Pick<LoopOptions, "describeWeights">,
  work: () => Promise<MicroBatch[]>,
): Promise<MicroBatch[]> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof NonFiniteError)) throw error;
    const weights = describeWeights ? `; ${await describeWeights()}` : "";
    throw new NonFiniteError(
      `step ${step}: ${error.message}${weights}; nothing was updated. A lower learning_rate or a smaller beta may help`,
      { cause: error },
    );
  }
}

/** Pairs that a message names at most. */
const MAX_PLACES = 8;

function listPlaces(places: readonly string[]): string {
  const rest = places.length - MAX_PLACES;
  return places.slice(0, MAX_PLACES).join(", ") + (rest > 0 ? ` and ${rest} more` : "");
}

function tokensOf(pairs: readonly TrainingPair[], numbers: Iterable<number>): number {
  let tokens = 0;
  for (const number of numbers) {
    const { promptIds, chosenIds, rejectedIds } = pairs[number]!;
    tokens += 2 * promptIds.length + chosenIds.length + rejectedIds.length;
  }
  return tokens;
}

function namesOf(pairs: readonly TrainingPair[], microBatches: readonly Iterable<number>[]): string[][] {
  return microBatches.map((batch) => Array.from(batch, (number) => pairs[number]!.place));
}
