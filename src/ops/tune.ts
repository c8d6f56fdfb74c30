import type { GpuBuffer } from "../gpu/buffer.ts";
import { type Command, record } from "../gpu/commands.ts";
import { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { candidateShapes, fragmentUnit, type ProductSizes, parseCase, shapeClassOf } from "./fragment-shapes.ts";
import { createHalfRows, packedRows } from "./half-rows.ts";
import { createMatrix, createWeight } from "./matrix.ts";
import { PeakSlots } from "./peak.ts";
import { tensorProduct } from "./tensor.ts";
import { createGradientWorkspace, tensorGradient } from "./tensor-gradient.ts";

/** Milliseconds that a sample takes at least: enough for submission and wake-up not to count. */
const SAMPLE_MS = 5;
const SAMPLES = 3;
/** For a clock that does not tell such short times. */
const MAX_REPETITIONS = 512;
/** A candidate whose run is longer than a sample is given up when it takes so many times what the best one's does. */
const HOPELESS = 3;

/** How the candidates for a product did. */
export interface Tuned {
  /** As `Decisions` has it. */
  readonly name: string;
  /** Milliseconds of each candidate; null where one was given up. */
  readonly ms: readonly (number | null)[];
  /** The fastest. */
  readonly variant: number;
}

/**
 * Runs every candidate shape of these products on operands of its own, and decides for the fastest. To be called while
 * memory is free: a product's operands are as large as in training.
 *
 * @param names cases of matmuls, as `gpu.decisions.open` lists them
 * @param now a clock in milliseconds
 */
export async function tuneProducts(
  gpu: Gpu,
  names: readonly string[],
  now: () => number,
  onProgress: (done: number, total: number) => void = () => {},
): Promise<Tuned[]> {
  const results: Tuned[] = [];
  for (const [i, name] of names.entries()) {
    onProgress(i, names.length);
    const sizes = parseCase(name);
    if (!sizes) throw new Error(`internal: ${name} is no product's case`);
    const { value: variants, buffers } = gpu.collect(() => makeVariants(gpu, sizes));
    try {
      const tuned = { name, ...(await fastest(gpu, variants, now)) };
      gpu.decisions.decide(name, tuned.variant);
      results.push(tuned);
    } finally {
      for (const buffer of buffers) gpu.release(buffer);
    }
  }
  return results;
}

/** The product in each of its candidate shapes, on the same operands. */
function makeVariants(gpu: Gpu, sizes: ProductSizes): Command[][] {
  const { kind, m, n, k } = sizes;
  const shapes = candidateShapes(fragmentUnit(gpu), sizes);
  const y = createMatrix(gpu, "tuning: result", m, n);
  const count = new RowCount(gpu, "tuning", kind === "tn" ? k : m);
  count.set(count.max);
  const half = createHalfRows(gpu, "tuning: left factor", count.max, kind === "tn" ? Math.max(m, n) : k);
  fill(gpu, half.range.buffer, F16_NUMBERS);
  fill(gpu, half.factor.buffer, Float32Array.of(1));
  if (kind === "tn") {
    const [wide, narrow] = [Math.max(m, n), createMatrix(gpu, "tuning: narrow factor", k, Math.min(m, n))];
    fill(gpu, narrow.range.buffer, Float32Array.of(1));
    const workspace = createGradientWorkspace(gpu, k, wide, narrow.cols, new PeakSlots(gpu, shapes.length));
    const op = { count, wide: packedRows(half, k, wide), narrow, narrowIsLeft: m < n, y, workspace };
    return shapes.map((shape) => tensorGradient(gpu, { ...op, shape }));
  }
  const transposed = kind === "nt";
  // A narrow result is LoRA's, whose factors are f32.
  const format = shapeClassOf(sizes) === "wide" ? "f16" : "f32";
  const w = createWeight(gpu, "tuning: right factor", format, transposed ? n : k, transposed ? k : n).parts[0]!.range;
  fill(gpu, w.buffer, format === "f16" ? F16_NUMBERS : Float32Array.of(1));
  return shapes.map((shape) => [
    tensorProduct(gpu, {
      count,
      x: packedRows(half, m, k),
      firstXColumn: 0,
      k,
      n,
      w,
      format,
      transposed,
      lora: null,
      addition: { kind: "none" },
      y,
      firstYColumn: 0,
      scale: 1,
      shape,
    }),
  ]);
}

/** Numbers between 0.5 and 1 in f16: a multiplication by zeros would draw less power, and be faster than a real one. */
const F16_NUMBERS = Uint16Array.from({ length: 4093 }, (_, i) => 0x3800 + ((i * 2_654_435) % 1024));

/** Repeats the values over the whole buffer. */
function fill(gpu: Gpu, buffer: GpuBuffer, values: Uint16Array | Float32Array): void {
  const block = new Uint8Array(Math.min(buffer.sizeBytes, 4 * 2 ** 20));
  const bytes = new Uint8Array(values.buffer).subarray(0, block.length);
  block.set(bytes);
  for (let done = bytes.length; done < block.length; done *= 2) block.copyWithin(done, 0, done);
  for (let at = 0; at < buffer.sizeBytes; at += block.length) {
    gpu.write(buffer, at, block.subarray(0, buffer.sizeBytes - at));
  }
}

interface Trial {
  readonly commands: readonly Command[];
  /** Runs of a sample. */
  readonly times: number;
  /** Of one run, the shortest so far. */
  ms: number;
}

async function fastest(
  gpu: Gpu,
  variants: readonly (readonly Command[])[],
  now: () => number,
): Promise<Pick<Tuned, "ms" | "variant">> {
  await gpu.pipelines.ready();
  const run = async (commands: readonly Command[], times: number): Promise<number> => {
    const recorded = record(gpu, "tuning", Array<readonly Command[]>(times).fill(commands).flat());
    const startMs = now();
    gpu.submit(recorded);
    await gpu.flush();
    return now() - startMs;
  };
  let best = Number.POSITIVE_INFINITY;
  const trials: (Trial | null)[] = [];
  for (const commands of variants) {
    await run(commands, 1); // Warms up: a driver may finish compiling when a kernel first runs.
    const once = await run(commands, 1);
    if (once > Math.max(SAMPLE_MS, HOPELESS * best)) {
      trials.push(null);
      continue;
    }
    best = Math.min(best, once);
    let times = 1;
    for (let ms = once; ms < SAMPLE_MS && times < MAX_REPETITIONS; ms = await run(commands, times)) times *= 2;
    trials.push({ commands, times, ms: Number.POSITIVE_INFINITY });
  }
  // In turn, so that a clock that changes meanwhile is the same for all.
  for (let i = 0; i < SAMPLES; i++) {
    for (const trial of trials) {
      if (trial) trial.ms = Math.min(trial.ms, (await run(trial.commands, trial.times)) / trial.times);
    }
  }
  const ms = trials.map((trial) => trial?.ms ?? null);
  return { ms, variant: ms.indexOf(Math.min(...trials.map((trial) => trial?.ms ?? Number.POSITIVE_INFINITY))) };
}
