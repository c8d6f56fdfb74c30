import { type Command, encode, type Work } from "../../src/gpu/commands.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import type { Profiler, TimedDispatch } from "../../src/gpu/profiler.ts";
import { median } from "../bench/measure.ts";

/** Work that is timed in one submission, and the same done first so that clocks and caches are as in training. */
const SAMPLE_MS = 80;
const SAMPLES = 5;
const MAX_REPETITIONS = 512;

/** Milliseconds of a run of `commands`. */
export interface CommandTime {
  /** All its dispatches. */
  readonly ms: number;
  /** Only those that multiply. */
  readonly multiplyMs: number;
}

/** The device's timestamps, which every measurement here is taken by. @throws where the adapter has none */
export function timestampsOf({ profiler }: Gpu): Profiler {
  if (!profiler) throw new Error("this adapter has no timestamp queries");
  return profiler;
}

/** The median over samples of many runs, by the GPU's own clock. */
export async function timeCommands(gpu: Gpu, commands: readonly Command[]): Promise<CommandTime> {
  const { samples, repetitions } = await sampleCommands(gpu, commands);
  const medianOf = (isCounted: (dispatch: TimedDispatch) => boolean) =>
    median(samples.map((sample) => msOf(sample.filter(isCounted)))) / repetitions;
  return { ms: medianOf(() => true), multiplyMs: medianOf(({ work }) => (work?.flops ?? 0) > 0) };
}

/** A kernel within a run of commands: all its dispatches together. */
export interface KernelTime extends Work {
  readonly kernel: string;
  readonly ms: number;
}

/** The same for each kernel of `commands`, in their order. */
export async function timeKernels(gpu: Gpu, commands: readonly Command[]): Promise<KernelTime[]> {
  const { samples, repetitions } = await sampleCommands(gpu, commands);
  const kernels = new Set(samples[0]!.map(({ label }) => label));
  return [...kernels].map((kernel): KernelTime => {
    const ofKernel = samples.map((sample) => sample.filter(({ label }) => label === kernel));
    const total = (of: (work: Work) => number) =>
      ofKernel[0]!.reduce((sum, { work }) => sum + (work ? of(work) : 0), 0) / repetitions;
    return {
      kernel,
      ms: median(ofKernel.map(msOf)) / repetitions,
      flops: total(({ flops }) => flops),
      bytes: total(({ bytes }) => bytes),
    };
  });
}

interface Samples {
  readonly samples: readonly (readonly TimedDispatch[])[];
  /** Runs of a sample. */
  readonly repetitions: number;
}

async function sampleCommands(gpu: Gpu, commands: readonly Command[]): Promise<Samples> {
  const profiler = timestampsOf(gpu);
  await gpu.pipelines.ready();
  const sample = async (repetitions: number): Promise<TimedDispatch[]> => {
    profiler.isActive = true;
    const encoder = gpu.device.createCommandEncoder();
    for (let i = 0; i < repetitions; i++) encode(gpu, encoder, commands);
    profiler.isActive = false;
    gpu.device.queue.submit([encoder.finish()]);
    const timed = await profiler.collect();
    gpu.throwIfFailed();
    return timed;
  };
  await sample(1); // Lets the driver finish what it puts off until a kernel runs.
  const once = msOf(await sample(1));
  const repetitions = Math.min(MAX_REPETITIONS, Math.max(1, Math.ceil(SAMPLE_MS / Math.max(once, 1e-3))));
  await sample(repetitions);
  const samples: TimedDispatch[][] = [];
  for (let i = 0; i < SAMPLES; i++) samples.push(await sample(repetitions));
  return { samples, repetitions };
}

function msOf(timed: readonly TimedDispatch[]): number {
  return timed.reduce((sum, { startNs, endNs }) => sum + endNs - startNs, 0) / 1e6;
}
