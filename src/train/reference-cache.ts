import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import path from "node:path";
import type { PairTokens } from "../data/pack.ts";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";
import { makeFolder } from "../weights/make-folder.ts";
import { openSafetensorsFile } from "../weights/safetensors-file.ts";
import type { TensorSpec } from "../weights/safetensors-header.ts";
import { SafetensorsWriter } from "../weights/safetensors-writer.ts";
import type { ReferenceLogps } from "./objective.ts";

/** Raise it when the numbers that a forward pass gives change. */
const FORMAT = 1;

const SIDES = ["chosen", "rejected"] as const;

/** All that the reference's log-probabilities depend on. */
export interface ReferenceKey {
  readonly config: LlamaConfig;
  /** SHA-256 of each weight file by its name. */
  readonly weights: Readonly<Record<string, string>>;
  /** How the base is kept and multiplied. */
  readonly precision: string;
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

/**
 * What was kept for these pairs; null where there is nothing.
 * @throws InputError where the file is damaged: not as long as the pairs ask, or not what was written under this name
 */
export async function readReferenceCache(file: string, pairs: readonly PairTokens[]): Promise<ReferenceLogps[] | null> {
  if (!existsSync(file)) return null;
  const opened = await openSafetensorsFile(file);
  try {
    const read = async (wanted: TensorSpec) => {
      const found = opened.header.tensors.get(wanted.name);
      if (found?.dtype !== wanted.dtype || String(found.shape) !== String(wanted.shape)) {
        const { name, dtype, shape } = wanted;
        throw new InputError(`${printable(file)}: must hold "${name}" as ${dtype} of shape [${shape}]`);
      }
      return opened.readTensor(wanted.name);
    };
    const counts = SIDES.map((side) => pairs.reduce((sum, pair) => sum + pair[`${side}Ids`].length, 0));
    const [chosen, rejected, sha256] = tensorsOf(counts);
    const values = [await read(chosen), await read(rejected)].map((bytes) => new Float64Array(bytes.buffer));
    if (Buffer.compare(await read(sha256), digestOf(file, values)) !== 0) {
      throw new InputError(`${printable(file)}: its values are not those that were written (SHA-256)`);
    }
    return split(values, pairs);
  } finally {
    await opened.close();
  }
}

/** @throws InputError where the file system refuses */
export async function writeReferenceCache(file: string, logps: readonly ReferenceLogps[]): Promise<void> {
  const values = SIDES.map((side) => concatenate(logps.map((pair) => pair[side])));
  const contents = [...values.map((side) => new Uint8Array(side.buffer)), digestOf(file, values)];
  const tensors = tensorsOf(values.map((side) => side.length));
  await makeFolder(path.dirname(file));
  const writer = await SafetensorsWriter.create(file, tensors);
  try {
    for (const [i, { name }] of tensors.entries()) await writer.append(name, contents[i]!);
    await writer.seal();
    await writer.publish();
  } catch (error) {
    await writer.discard();
    throw error;
  }
}

/** The file's tensors, for so many completion tokens of each side. */
function tensorsOf([chosen = 0, rejected = 0]: readonly number[]): [TensorSpec, TensorSpec, TensorSpec] {
  return [
    { name: "chosen", dtype: "F64", shape: [chosen] },
    { name: "rejected", dtype: "F64", shape: [rejected] },
    { name: "sha256", dtype: "U8", shape: [32] },
  ];
}

/** Of the values and of the name that they are kept under, so that a file that was renamed is damaged too. */
function digestOf(file: string, values: readonly Float64Array[]): Uint8Array {
  const hash = createHash("sha256").update(path.basename(file));
  for (const side of values) hash.update(side);
  return hash.digest();
}

function split(values: readonly Float64Array[], pairs: readonly PairTokens[]): ReferenceLogps[] {
  const next = [0, 0];
  const take = (side: 0 | 1, length: number) => {
    const start = next[side]!;
    next[side] = start + length;
    return values[side]!.slice(start, start + length);
  };
  return pairs.map(({ chosenIds, rejectedIds }) => ({
    chosen: take(0, chosenIds.length),
    rejected: take(1, rejectedIds.length),
  }));
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
