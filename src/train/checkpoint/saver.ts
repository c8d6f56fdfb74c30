import path from "node:path";
import { ExpectedError, NonFiniteError } from "../../errors.ts";
import { readLoraAdapter } from "../../export/adapter.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import type { LoraBuffers } from "../../model/lora.ts";
import type { LoopState } from "../loop.ts";
import type { Optimizer } from "../optimizer.ts";
import { optimizerTensors, readOptimizer } from "./optimizer-state.ts";
import type { CheckpointState } from "./state.ts";
import { type CheckpointTarget, writeCheckpoint } from "./write-checkpoint.ts";

/** Without save_steps: what a crash may cost. */
const SAVE_INTERVAL_MS = 60_000;

/** Saves a run on its way. */
export interface Saver {
  /** Whether a checkpoint should be written although no step asks for one. */
  readonly isOverdue: () => boolean;
  /**
   * Reads the state back, which the GPU waits for, and begins to write it. The promise inside resolves when the checkpoint
   * is on the disk; the state's records are to be left alone until then.
   */
  readonly save: (loop: LoopState) => Promise<{ readonly durable: Promise<void> }>;
}

export interface SaverOptions {
  readonly gpu: Gpu;
  readonly adapter: LoraBuffers;
  readonly optimizer: Optimizer;
  readonly target: CheckpointTarget;
  /** Whether to save by the clock, for want of save_steps. */
  readonly byTime: boolean;
  /** Called before the first checkpoint is written. */
  readonly prepare: () => Promise<void>;
  readonly stateOf: (loop: LoopState) => CheckpointState;
}

export function createSaver({ gpu, adapter, optimizer, target, byTime, prepare, stateOf }: SaverOptions): Saver {
  const tensors = optimizerTensors(adapter.layers, optimizer);
  let savedMs = performance.now();
  let prepared: Promise<void> | null = null;
  return {
    isOverdue: () => byTime && performance.now() - savedMs >= SAVE_INTERVAL_MS,
    save: async (loop) => {
      const snapshot = await inStep(loop.step, async () => ({
        adapter: await readLoraAdapter(gpu, adapter),
        optimizer: await readOptimizer(gpu, tensors),
        state: stateOf(loop),
      }));
      gpu.releaseStaging();
      const write = async () => {
        prepared ??= prepare();
        await prepared;
        await inStep(loop.step, () => writeCheckpoint(target, snapshot));
        savedMs = performance.now();
      };
      const durable = write();
      durable.catch(() => {}); // Thrown where it is awaited.
      return { durable };
    },
  };
}

/** Says after which step something could not be saved. */
async function inStep<T>(step: number, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof NonFiniteError) {
      throw new NonFiniteError(`after the update of step ${step}: ${error.message}; it was not saved`, {
        cause: error,
      });
    }
    if (!(error instanceof ExpectedError) || error.exitCode !== 2) throw error;
    throw new ExpectedError(`${error.message}; step ${step} could not be saved`, error.exitCode, { cause: error });
  }
}

/** Where the reference's log-probabilities lie beside a run's checkpoints. */
export function referenceFile(checkpointsFolder: string): string {
  return path.join(checkpointsFolder, "reference.safetensors");
}
