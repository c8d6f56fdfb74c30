import type { TrackerName } from "../config/names.ts";
import { EVAL_PREFIX, type RunRecord } from "../train/records.ts";

/** What a tracker is told of a run before its first record. */
export interface RunFacts {
  /** The output folder. */
  readonly folder: string;
  /** Names that come of the folder's, where the environment has no others. */
  readonly project: string;
  readonly name: string;
  /** Settings and what the run is made on, under dotted keys. */
  readonly hyperparameters: Readonly<Record<string, Scalar>>;
}

export type Scalar = string | number | boolean;

/** How a run ended, and what came of it. */
export interface RunEnd {
  readonly status: "done" | "stopped" | "interrupted" | "failed";
  /** Times, speed, memory and the last values, under dotted keys. */
  readonly summary: Readonly<Record<string, Scalar>>;
  /** Sample answers and the like: texts by their names. */
  readonly texts: Readonly<Record<string, string>>;
}

/** Records that lie side by side in metrics.jsonl. Sent again after a failure it is the same, to the bit. */
export interface Batch {
  /** The first one's place in metrics.jsonl, from 0. */
  readonly first: number;
  readonly records: readonly RunRecord[];
  /** When they were written. */
  readonly timeMs: number;
  /** Whether it was begun before and nobody knows what of it has arrived. */
  readonly isRepeated: boolean;
}

/** Where a run is at its tracker, as the outbox keeps it. Never a key. */
export type Remote = Readonly<Record<string, string | number>>;

/**
 * A service that shows runs. Every method may be called again with the same arguments after it has failed, also by
 * another process, and must leave no point missing or doubled then. What a method returns is kept in place of `remote`.
 *
 * @throws TransientFailure where another attempt may do, RefusedFailure where none will
 */
export interface Tracker {
  readonly name: TrackerName;
  /** What no message may show. */
  readonly secrets: readonly string[];
  /**
   * Makes a run there.
   *
   * @param token names the run for all attempts to make it
   * @param isRepeated whether an earlier attempt may have made it
   */
  readonly create: (run: RunFacts, token: string, isRepeated: boolean, signal: AbortSignal) => Promise<Remote>;
  readonly describe: (remote: Remote, run: RunFacts, signal: AbortSignal) => Promise<Remote>;
  readonly send: (remote: Remote, batch: Batch, signal: AbortSignal) => Promise<Remote>;
  readonly finish: (remote: Remote, end: RunEnd, signal: AbortSignal) => Promise<Remote>;
  /** Where people look at it. */
  readonly place: (remote: Remote) => string;
}

/**
 * The finite values of a record but for its step; what is null in JSON was not finite and is a gap. A name has one value
 * at a step: the epoch of an evaluation, whose step has a record of training too, is one of the evaluation.
 */
export function valuesOf({ step: _, ...values }: RunRecord): [name: string, value: number][] {
  const isEvaluation = Object.keys(values).some((key) => key.startsWith(EVAL_PREFIX));
  return Object.entries(values).flatMap(([key, value]): [string, number][] => {
    if (value === null || !Number.isFinite(value)) return [];
    return [[isEvaluation && key === "epoch" ? `${EVAL_PREFIX}epoch` : key, value]];
  });
}

/** As transformers names a metric where it sends it: `train/loss`, `eval/loss`. */
export function groupedName(key: string): string {
  return key.startsWith(EVAL_PREFIX) ? `eval/${key.slice(EVAL_PREFIX.length)}` : `train/${key}`;
}
