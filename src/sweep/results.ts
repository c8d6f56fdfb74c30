import type { RunRecord } from "../train/records.ts";

/**
 * Where a run of a sweep stands. `stopped`: ended early because it lagged behind the others; `failed`: ended with an error
 * that would come again; `paused`: waits for its turn; `interrupted`: begun, and neither at its end nor at work as far as its
 * folder says.
 */
export type RunStatus = "pending" | "running" | "paused" | "interrupted" | "done" | "stopped" | "failed";

/** What a sweep shows of a run: what its folder holds. */
export interface RunResult {
  /** The name of its folder. */
  readonly name: string;
  /** The values of the swept settings, by their keys as `--set` has them (`beta`, `lora.r`). */
  readonly settings: Readonly<Record<string, unknown>>;
  readonly status: RunStatus;
  /** Why it failed or was stopped; null otherwise. */
  readonly reason: string | null;
  /** Optimizer steps done, and of the whole run; null where it has not begun. */
  readonly steps: number;
  readonly totalSteps: number | null;
  /** Seconds in all processes of the run so far; null where it does not say. */
  readonly seconds: number | null;
  /** The records of metrics.jsonl: of training, and of evaluation (names begin with `eval_`), in the order of steps. */
  readonly trainRecords: readonly RunRecord[];
  readonly evalRecords: readonly RunRecord[];
  /** Of `evalRecords`, the last one and the best one by the sweep's metric; null where there is none. */
  readonly final: RunRecord | null;
  readonly best: RunRecord | null;
}

export interface SweepResults {
  /** The sweep's output folder. */
  readonly folder: string;
  /** The swept settings, in the order of the config. */
  readonly keys: readonly string[];
  /** A name in evaluation records, or of training records where nothing is evaluated, and which way is better. */
  readonly metric: { readonly name: string; readonly isLowerBetter: boolean };
  readonly runs: readonly RunResult[];
}

const ENDS: ReadonlySet<RunStatus> = new Set<RunStatus>(["done", "stopped", "failed"]);

/** Whether nothing is left to do for a run. */
export function isEnd(status: RunStatus): boolean {
  return ENDS.has(status);
}
