import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

/** A record of test/random/golden/draws.jsonl, which scripts/golden/draws.py wrote from torch, numpy, datasets, PEFT and TRL. */
type Golden =
  | { kind: "versions" }
  | { kind: "mt19937"; seed: number; first: number[]; sha256: string }
  | { kind: "permutation"; n: number; seed: number; order: number[] | string }
  | { kind: "split"; n: number; test_size: number; seed: number; train: number[] | string; test: number[] | string }
  | { kind: "kaiming"; rows: number; fan_in: number; seed: number; sha256: string }
  | {
      kind: "peft_init";
      seed: number;
      rank: number;
      modules: { name: string; in: number; out: number; sha256: string }[];
    }
  | {
      kind: "schedule";
      pairs: number;
      batch: number;
      accumulation: number;
      seed: number;
      shuffle: boolean;
      num_train_epochs?: number;
      max_steps?: number;
      total_steps: number;
      epochs: number[];
      micro_batches: number[][];
    };

const records = readFileSync(new URL("golden/draws.jsonl", import.meta.url), "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line) as Golden);

/** All golden records of one kind; never none. */
export function goldenDraws<K extends Golden["kind"]>(kind: K): Extract<Golden, { kind: K }>[] {
  const found = records.filter((record): record is Extract<Golden, { kind: K }> => record.kind === kind);
  if (found.length === 0) throw new Error(`no golden record of kind ${kind}`);
  return found;
}

/** SHA-256 of the elements' little-endian bytes. */
export function digest(values: Uint32Array | Float32Array): string {
  return createHash("sha256")
    .update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    .digest("hex");
}

/** The golden file keeps short sequences themselves and long ones as a digest. */
export function shortOrDigest(values: Uint32Array): number[] | string {
  return values.length <= 16 ? [...values] : digest(values);
}
