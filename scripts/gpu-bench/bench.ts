import { readFileSync } from "node:fs";
import path from "node:path";
import { type ChildEnd, runChild } from "./child.ts";
import type { DeviceFacts } from "./kernels.ts";
import type { PythonFacts } from "./python.ts";
import type { StageRecord } from "./stages.ts";

/** What every stage is given. */
export interface Bench {
  /** The project's. */
  readonly root: string;
  /** Where results go, and everything that the processes print. */
  readonly out: string;
  readonly logFile: string;
  /** Where models are kept. */
  readonly work: string;
  /** Empty at the start, gone in the end. */
  readonly scratch: string;
  readonly device: string;
  readonly python: PythonFacts;
  /** Steps of dpo-train, and of TRL. */
  readonly steps: number;
  readonly peerSteps: number;
  /** More `--set` for dpo-train. */
  readonly settings: readonly string[];
  /** Null until the device stage is done. */
  readonly facts: DeviceFacts | null;
  readonly deadlineMs: number;
  /** After the deadline, for what still runs to stop by itself. */
  readonly graceMs: number;
  readonly signal: AbortSignal;
}

export type Outcome = Pick<StageRecord, "status" | "reason" | "result">;

/** Runs a process until the bench's time is up. */
export function runInBench(
  { root, logFile, deadlineMs, graceMs, signal }: Bench,
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  onLine?: (line: string, nowMs: number) => void,
): Promise<ChildEnd> {
  const limitMs = Math.max(1, deadlineMs - performance.now());
  return runChild({ command, args, env, cwd: root, logFile, limitMs, graceMs, signal, ...(onLine && { onLine }) });
}

export function script({ root }: Bench, name: string): string {
  return path.join(root, "scripts/gpu-bench", name);
}

export function skipped(reason: string): Outcome {
  return { status: "skipped", reason, result: null };
}

export function withoutResult(end: ChildEnd): Outcome {
  return { status: end.timedOut ? "skipped" : "failed", reason: endReason(end), result: null };
}

export function endReason({ exitCode, timedOut, lastLine }: ChildEnd): string {
  if (timedOut) return "stopped when the time was up";
  return `ended with ${exitCode === null ? "a signal" : `exit code ${exitCode}`}: ${lastLine.slice(0, 300) || "no output"}`;
}

export function readJson<T>(file: string): T | null {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as T;
  } catch {
    return null; // Not written, or not to its end.
  }
}
