import type { Size } from "./sizes.ts";

// Which stages there are, in which order, and which of them still fits: no clocks and no files here.

export type StageKind = "device" | "matmul" | "ceiling" | "cublas" | "kernels" | "train" | "trl" | "trl-tuned";

/** `device`, `matmul-8b`, `trl-tuned-1b`. */
export type StageName = string;

export interface Stage {
  readonly name: StageName;
  readonly kind: StageKind;
  readonly size: Size;
  /** Without this many seconds it is not begun. */
  readonly needsSeconds: number;
}

/** Time below which a stage has no chance, on a GPU that is worth a benchmark. A model's making is part of its first stage. */
const NEEDS_SECONDS: Readonly<Record<Exclude<StageKind, "device">, Readonly<Record<Size, number>>>> = {
  matmul: { "8b": 30, "1b": 25, tiny: 15 },
  ceiling: { "8b": 8, "1b": 8, tiny: 8 },
  cublas: { "8b": 15, "1b": 15, tiny: 10 },
  kernels: { "8b": 15, "1b": 15, tiny: 10 },
  train: { "8b": 90, "1b": 30, tiny: 20 },
  trl: { "8b": 70, "1b": 30, tiny: 30 },
  "trl-tuned": { "8b": 70, "1b": 30, tiny: 30 },
};

export const DEVICE: Stage = { name: "device", kind: "device", size: "tiny", needsSeconds: 4 };

/** The most valuable first: kernels at the first model's sizes, then each model. */
export function stagesOf(sizes: readonly Size[]): Stage[] {
  const stage = (kind: Exclude<StageKind, "device">, size: Size): Stage => {
    return { name: `${kind}-${size}`, kind, size, needsSeconds: NEEDS_SECONDS[kind][size] };
  };
  const [first] = sizes;
  return [
    DEVICE,
    ...(first
      ? [stage("matmul", first), stage("ceiling", first), stage("cublas", first), stage("kernels", first)]
      : []),
    ...sizes.flatMap((size) => [stage("train", size), stage("trl", size), stage("trl-tuned", size)]),
  ];
}

/** What became of a stage. */
export interface StageRecord<Result = unknown> {
  /** `partial` has a result with something missing; `skipped` and `failed` have none, or that of an earlier call. */
  readonly status: "done" | "partial" | "skipped" | "failed";
  /** Why it is not done. */
  readonly reason: string | null;
  readonly seconds: number;
  readonly finished: string;
  readonly result: Result | null;
}

/** Why a stage is not begun, or null. */
export function outOfTime({ needsSeconds }: Stage, secondsLeft: number): string | null {
  if (secondsLeft >= needsSeconds) return null;
  return `needs about ${needsSeconds} s, ${Math.max(0, Math.floor(secondsLeft))} s were left`;
}

/** Whether a stage is still to be run, given what an earlier call has left. */
export function isPending(stage: Stage, records: Readonly<Record<StageName, StageRecord>>): boolean {
  return records[stage.name]?.status !== "done";
}

/** The record to keep: a new one, but never without a result where the old one had one. */
export function keepBetter(old: StageRecord | undefined, fresh: StageRecord): StageRecord {
  if (fresh.result !== null || old === undefined || old.result === null) return fresh;
  return old;
}
