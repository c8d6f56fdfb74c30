import { randomBytes } from "node:crypto";
import { readFile, rename, rm } from "node:fs/promises";
import path from "node:path";
import { syncFolder, TEMPORARY_SUFFIX, writeFileAtomically } from "../../weights/atomic-file.ts";
import type { LlamaConfig } from "../../weights/llama-config.ts";
import { makeFolder } from "../../weights/make-folder.ts";
import {
  ADAPTER_CONFIG_FILE,
  ADAPTER_WEIGHTS_FILE,
  type LoraAdapter,
  writePeftAdapter,
} from "../../weights/peft-adapter.ts";
import { fileError } from "../../weights/regular-file.ts";
import { SafetensorsWriter } from "../../weights/safetensors-writer.ts";
import { checkpointName, listCheckpoints } from "./folders.ts";
import { METRICS_COPY, OPTIMIZER_FILE, STATE_FILE, sha256OfFile, writeManifest } from "./manifest.ts";
import type { SavedTensor } from "./optimizer-state.ts";
import { type CheckpointState, formatState } from "./state.ts";

/** All that a run continues from, on the host. */
export interface Snapshot {
  readonly adapter: LoraAdapter;
  readonly optimizer: readonly SavedTensor[];
  readonly state: CheckpointState;
}

export interface CheckpointTarget {
  /** The folder of checkpoints. */
  readonly folder: string;
  /** The run's metrics.jsonl, which nothing is appended to meanwhile. */
  readonly metricsFile: string;
  readonly model: LlamaConfig;
  /** The id or path by which PEFT finds the base. */
  readonly baseModel: string;
  /** Checkpoints to keep. */
  readonly keep: number;
}

/**
 * Writes a checkpoint, which is seen under its name only when all of it is on the disk, and then removes the oldest ones.
 * At no moment are there fewer whole checkpoints than before.
 *
 * @returns its path
 * @throws InputError where the file system refuses, NonFiniteError for a weight that is not finite
 */
export async function writeCheckpoint(target: CheckpointTarget, snapshot: Snapshot): Promise<string> {
  const { folder } = target;
  const name = checkpointName(snapshot.state.loop.step);
  const temporary = temporaryPath(folder, name);
  const final = path.join(folder, name);
  try {
    await makeFolder(temporary);
    await writeFiles(temporary, target, snapshot);
    await inFileSystem(final, "create", async () => {
      await syncFolder(temporary);
      await setAside(final);
      await rename(temporary, final);
      await syncFolder(folder);
    });
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {}); // The error at hand says why.
    throw error;
  }
  await rotate(target, snapshot.state.loop.step);
  return final;
}

async function writeFiles(folder: string, target: CheckpointTarget, { adapter, optimizer, state }: Snapshot) {
  const weights = await writePeftAdapter(folder, adapter, target.model, target.baseModel);
  const metrics = await inFileSystem(target.metricsFile, "read", () => readFile(target.metricsFile));
  await writeManifest(folder, {
    [ADAPTER_WEIGHTS_FILE]: weights,
    [ADAPTER_CONFIG_FILE]: await sha256OfFile(path.join(folder, ADAPTER_CONFIG_FILE)),
    [METRICS_COPY]: await writeFileAtomically(path.join(folder, METRICS_COPY), metrics),
    [OPTIMIZER_FILE]: await writeTensors(path.join(folder, OPTIMIZER_FILE), optimizer),
    [STATE_FILE]: await writeFileAtomically(path.join(folder, STATE_FILE), formatState(state)),
  });
}

async function writeTensors(file: string, tensors: readonly SavedTensor[]): Promise<string> {
  const writer = await SafetensorsWriter.create(file, tensors);
  try {
    for (const { name, bytes } of tensors) await writer.append(name, bytes);
    const { sha256Hex } = await writer.seal();
    await writer.publish();
    return sha256Hex;
  } catch (error) {
    await writer.discard();
    throw error;
  }
}

/** Removes all but the newest up to this step. Those of later steps belong to a time that is yet to come again. */
async function rotate({ folder, keep }: CheckpointTarget, step: number): Promise<void> {
  const old = (await listCheckpoints(folder)).filter((checkpoint) => checkpoint.step <= step).slice(keep);
  for (const checkpoint of old) {
    await inFileSystem(checkpoint.path, "remove", () => setAside(checkpoint.path));
  }
}

/** Removes a checkpoint: first its name, so that nobody takes what is left of it for one. */
async function setAside(checkpoint: string): Promise<void> {
  const aside = temporaryPath(path.dirname(checkpoint), path.basename(checkpoint));
  try {
    await rename(checkpoint, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  await rm(aside, { recursive: true, force: true });
}

function temporaryPath(folder: string, name: string): string {
  return path.join(folder, `.${name}.${randomBytes(6).toString("hex")}${TEMPORARY_SUFFIX}`);
}

async function inFileSystem<T>(file: string, action: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw fileError(file, action, error);
  }
}
