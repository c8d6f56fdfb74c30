import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import type { PairTokens } from "../data/pack.ts";
import { ExpectedError } from "../errors.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";
import { openSafetensorsFile } from "../weights/safetensors-file.ts";
import { SafetensorsWriter } from "../weights/safetensors-writer.ts";
import type { ReferenceLogps } from "./objective.ts";

/** Raise it when the numbers that a forward pass gives change. */
const FORMAT = 1;

/** All that the reference's log-probabilities depend on. */
export interface ReferenceKey {
  readonly config: LlamaConfig;
  /** SHA-256 of each weight file by its name. */
  readonly weights: Readonly<Record<string, string>>;
  readonly precision: "f32" | "f16";
  /** The adapter: another one rounds differently. */
  readonly adapter: string;
  readonly pairs: readonly PairTokens[];
}

/** Reference log-probabilities on disk, under a hash of what they depend on, so that a change of any of it is a miss. */
export function referenceCachePath(folder: string, key: ReferenceKey): string {
  const hash = createHash("sha256");
  hash.update(JSON.stringify([FORMAT, key.config, key.weights, key.precision, key.adapter]));
  for (const { promptIds, chosenIds, rejectedIds } of key.pairs) {
    for (const ids of [promptIds, chosenIds, rejectedIds]) hash.update(Uint32Array.of(ids.length, ...Array.from(ids)));
  }
  return path.join(folder, `${hash.digest("hex")}.safetensors`);
}

/** What was kept for these pairs; null where there is nothing, or nothing that can be read. */
export async function readReferenceCache(file: string, pairs: readonly PairTokens[]): Promise<ReferenceLogps[] | null> {
  if (!existsSync(file)) return null;
  try {
    const opened = await openSafetensorsFile(file);
    try {
      const sides = { chosen: await floats("chosen"), rejected: await floats("rejected") };
      return split(sides, pairs);
      async function floats(name: string): Promise<Float64Array> {
        return new Float64Array((await opened.readTensor(name)).buffer);
      }
    } finally {
      await opened.close();
    }
  } catch (error) {
    if (error instanceof ExpectedError) return null; // A damaged file is computed again and replaced.
    throw error;
  }
}

export async function writeReferenceCache(file: string, logps: readonly ReferenceLogps[]): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  const sides = (["chosen", "rejected"] as const).map((name) => {
    const values = concatenate(logps.map((pair) => pair[name]));
    return { name, values, dtype: "F64" as const, shape: [values.length] };
  });
  const writer = await SafetensorsWriter.create(file, sides);
  try {
    for (const { name, values } of sides) await writer.append(name, new Uint8Array(values.buffer));
    await writer.seal();
    await writer.publish();
  } catch (error) {
    await writer.discard();
    throw error;
  }
}

function split(sides: { chosen: Float64Array; rejected: Float64Array }, pairs: readonly PairTokens[]) {
  let [chosen, rejected] = [0, 0];
  const logps = pairs.map(({ chosenIds, rejectedIds }): ReferenceLogps => {
    const pair = {
      chosen: sides.chosen.slice(chosen, chosen + chosenIds.length),
      rejected: sides.rejected.slice(rejected, rejected + rejectedIds.length),
    };
    chosen += chosenIds.length;
    rejected += rejectedIds.length;
    return pair;
  });
  const isWhole = chosen === sides.chosen.length && rejected === sides.rejected.length;
  return isWhole ? logps : null;
}

function concatenate(parts: readonly Float64Array[]): Float64Array<ArrayBuffer> {
  const whole = new Float64Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
