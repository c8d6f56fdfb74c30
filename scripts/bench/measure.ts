import { type Command, encode } from "../../src/gpu/commands.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";

/** A sample is as many runs as take this long together: enough for submit and wake-up not to count. */
const SAMPLE_MS = 80;
const SAMPLES = 5;
/** Of runs that take long, fewer say as much. */
const LONG_SAMPLE_MS = 300;
const LONG_SAMPLES = 3;
const MAX_REPETITIONS = 4096;

/** The median time of a run of `commands` among runs one after another, in milliseconds. The pipelines are warm. */
export async function medianMs(gpu: Gpu, commands: readonly Command[]): Promise<number> {
  await gpu.pipelines.ready();
  await timeMs(gpu, commands, 1); // Lets the driver finish what it puts off until a kernel runs.
  let repetitions = 1;
  let sampleMs = await timeMs(gpu, commands, repetitions);
  while (sampleMs < SAMPLE_MS && repetitions < MAX_REPETITIONS) {
    const growth = Math.ceil((1.2 * SAMPLE_MS) / sampleMs);
    repetitions = Math.min(MAX_REPETITIONS, repetitions * Math.min(growth, 16));
    sampleMs = await timeMs(gpu, commands, repetitions);
  }
  const perRun: number[] = [];
  const samples = sampleMs > LONG_SAMPLE_MS ? LONG_SAMPLES : SAMPLES;
  for (let i = 0; i < samples; i++) perRun.push((await timeMs(gpu, commands, repetitions)) / repetitions);
  gpu.throwIfFailed();
  return median(perRun);
}

/** A single run that takes this long says by itself whether a kernel can be the fastest. */
const TELLING_MS = 50;
const HOPELESS = 1.5;

/** The index and the median time of the fastest of several. Those that are slow by far are run twice and dropped. */
export async function fastest(
  gpu: Gpu,
  candidates: readonly (readonly Command[])[],
): Promise<{ readonly index: number; readonly ms: number }> {
  await gpu.pipelines.ready();
  let best = { index: -1, ms: Number.POSITIVE_INFINITY };
  for (const [index, commands] of candidates.entries()) {
    await timeMs(gpu, commands, 1);
    const onceMs = await timeMs(gpu, commands, 1);
    if (onceMs > TELLING_MS && onceMs > HOPELESS * best.ms) continue;
    const ms = await medianMs(gpu, commands);
    if (ms < best.ms) best = { index, ms };
  }
  return best;
}

/** Wall clock from submit to the end of `repetitions` runs. */
async function timeMs(gpu: Gpu, commands: readonly Command[], repetitions: number): Promise<number> {
  const encoder = gpu.device.createCommandEncoder();
  for (let i = 0; i < repetitions; i++) encode(gpu, encoder, commands);
  const buffer = encoder.finish();
  const startMs = performance.now();
  gpu.device.queue.submit([buffer]);
  await gpu.device.queue.onSubmittedWorkDone();
  return performance.now() - startMs;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
