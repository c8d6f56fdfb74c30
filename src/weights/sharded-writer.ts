import { join } from "node:path";
import { writeFileAtomically } from "./atomic-file.ts";
import { INDEX_FILE, WEIGHTS_FILE } from "./model-index.ts";
import type { TensorSpec } from "./safetensors-header.ts";
import { SafetensorsWriter, tensorSizeBytes, type WrittenFile } from "./safetensors-writer.ts";

/** Largest shard by default, as in huggingface_hub: 5 GB of tensors, the header not counted. */
export const DEFAULT_MAX_SHARD_BYTES = 5_000_000_000;

export interface Shard {
  readonly fileName: string;
  readonly tensors: readonly TensorSpec[];
}

/**
 * Splits tensors, in the order given, into shards of at most `maxShardBytes` each; a larger tensor has a shard of its
 * own. One shard is `model.safetensors`, several are `model-00001-of-0000N.safetensors`.
 */
export function planShards(tensors: readonly TensorSpec[], maxShardBytes = DEFAULT_MAX_SHARD_BYTES): Shard[] {
  const groups: TensorSpec[][] = [[]];
  let groupBytes = 0;
  for (const tensor of tensors) {
    const sizeBytes = tensorSizeBytes(tensor);
    if (groups.at(-1)!.length > 0 && groupBytes + sizeBytes > maxShardBytes) {
      groups.push([]);
      groupBytes = 0;
    }
    groups.at(-1)!.push(tensor);
    groupBytes += sizeBytes;
  }
  const digits = (number: number) => String(number).padStart(5, "0");
  return groups.map((group, i) => ({
    fileName: groups.length === 1 ? WEIGHTS_FILE : `model-${digits(i + 1)}-of-${digits(groups.length)}.safetensors`,
    tensors: group,
  }));
}

/** The text of the index of several shards, laid out as transformers writes it. */
export function formatModelIndex(shards: readonly Shard[]): string {
  const tensors = shards.flatMap((shard) => shard.tensors);
  const total_parameters = tensors.reduce(
    (sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1),
    0,
  );
  const total_size = tensors.reduce((sum, tensor) => sum + tensorSizeBytes(tensor), 0);
  const entries = shards.flatMap(({ fileName, tensors }) => tensors.map(({ name }) => [name, fileName] as const));
  entries.sort(([a], [b]) => (a < b ? -1 : 1));
  const index = { metadata: { total_parameters, total_size }, weight_map: Object.fromEntries(entries) };
  return `${JSON.stringify(index, null, 2)}\n`;
}

/**
 * Owns the weight files of a model folder that are being written, in one pass over the tensors in the order given.
 * Nothing appears under its name until `finish`. After any failure call `discard`.
 */
export class ShardedWriter {
  readonly #folder: string;
  readonly #shards: readonly Shard[];
  readonly #shardOf: ReadonlyMap<string, number>;
  readonly #writers: SafetensorsWriter[] = [];
  readonly #written: WrittenFile[] = [];

  /** `folder` exists. */
  constructor(folder: string, tensors: readonly TensorSpec[], maxShardBytes = DEFAULT_MAX_SHARD_BYTES) {
    this.#folder = folder;
    this.#shards = planShards(tensors, maxShardBytes);
    this.#shardOf = new Map(this.#shards.flatMap(({ tensors }, i) => tensors.map(({ name }) => [name, i] as const)));
  }

  /** Appends bytes of the tensor `name`, which must be the next one that is not complete. */
  async append(name: string, bytes: Uint8Array): Promise<void> {
    const shard = this.#shardOf.get(name);
    if (shard === undefined) throw new Error(`internal: "${name}" is not one of the tensors to write`);
    await this.#openUpTo(shard);
    await this.#writers[shard]!.append(name, bytes);
  }

  /** Makes all files durable and gives them their names, the index last. Throws when a tensor has too few bytes. */
  async finish(): Promise<WrittenFile[]> {
    await this.#openUpTo(this.#shards.length - 1);
    await this.#sealLast();
    for (const writer of this.#writers) await writer.publish();
    if (this.#shards.length > 1)
      await writeFileAtomically(join(this.#folder, INDEX_FILE), formatModelIndex(this.#shards));
    return [...this.#written];
  }

  /** Removes what has not been given its name. */
  async discard(): Promise<void> {
    for (const writer of this.#writers) await writer.discard();
  }

  /** Seals every shard before `shard` and opens it. */
  async #openUpTo(shard: number): Promise<void> {
    while (this.#writers.length <= shard) {
      if (this.#writers.length > 0) await this.#sealLast();
      const { fileName, tensors } = this.#shards[this.#writers.length]!;
      this.#writers.push(await SafetensorsWriter.create(join(this.#folder, fileName), tensors));
    }
  }

  async #sealLast(): Promise<void> {
    this.#written.push(await this.#writers.at(-1)!.seal());
  }
}
