import { describe, expect, it } from "vitest";
import { wholeBuffer } from "../../src/gpu/buffer.ts";
import { encode } from "../../src/gpu/commands.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { adamW, clipScale, createMoments32, partialCount, squareSums } from "../../src/ops/optimizer.ts";
import { useDevice } from "../device.ts";
import { firstDifference, KERNEL_TOLERANCE, relativeError, seededNumbers } from "../numbers.ts";
import * as reference from "../reference/optimizer.ts";
import { asFloats, constantMatrix, denseRows, type Output, run, sumMatrix, UNTOUCHED, withLanes } from "./harness.ts";

const device = useDevice();

interface Hyperparameters extends reference.AdamWSettings {
  readonly maxNorm: number;
}

const DEFAULTS: Hyperparameters = {
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.01,
  learningRate: 1e-3,
  decayLast: false,
  maxNorm: 1,
};

/** The uniform of kernels/library/step.wgsl at step t ≥ 1. */
function stepWords(t: number, { beta1, beta2, epsilon, weightDecay, learningRate, maxNorm }: Hyperparameters) {
  const [correction1, correction2] = [1 - beta1 ** t, 1 - beta2 ** t];
  const decay = 1 - learningRate * weightDecay;
  const first = [beta1, 1 - beta1, beta2, 1 - beta2, epsilon];
  return Float32Array.of(...first, Math.sqrt(correction2), learningRate / correction1, decay, maxNorm, 0, 0, 0);
}

/** (rows, cols) of the tensors in training: one element, odd sizes, and one that takes many workgroups and partial sums. */
const SIZES = [
  [1, 1],
  [3, 36],
  [50, 17],
  [130, 300],
] as const;

/** Tensors in training on the GPU: `step` clips and updates as the trainer does, and returns (norm, scale, finite, 0). */
function trainOnGpu(gpu: Gpu, parameters: readonly Float32Array[], settings: Hyperparameters) {
  const matrices = SIZES.map(([rows, cols], i) => constantMatrix(gpu, parameters[i]!, rows, cols));
  const moments = SIZES.map(([rows, cols], i) => createMoments32(gpu, `tensor ${i}`, { ...matrices[i]!, rows, cols }));
  const sums = SIZES.map(([rows, cols]) => constantMatrix(gpu, new Float32Array(rows * cols), rows, cols));
  const partials = wholeBuffer(gpu.buffer("partials", partialCount(sums) * 4));
  const clip = wholeBuffer(gpu.buffer("clip", 16));
  const step = gpu.uniform("step", new Uint32Array(12));
  const commands = [
    ...squareSums(gpu, sums, partials),
    ...clipScale(gpu, { step, partials, partialCount: partialCount(sums), clip }),
    ...SIZES.flatMap((_, i) =>
      adamW(gpu, {
        step,
        clip,
        gradient: sums[i]!,
        parameter: matrices[i]!,
        moments: moments[i]!,
        decayLast: settings.decayLast,
      }),
    ),
  ];
  const states = SIZES.flatMap((_, i) => [matrices[i]!, moments[i]!.first, moments[i]!.second]);
  return {
    step: async (t: number, gradients: readonly Float32Array[]) => {
      await gpu.pipelines.ready();
      gpu.write(step, 0, stepWords(t, settings));
      for (const [i, [rows, cols]] of SIZES.entries()) {
        gpu.write(sums[i]!.range.buffer, 0, sumMatrix(gpu, gradients[i]!, rows, cols).before);
      }
      const encoder = gpu.device.createCommandEncoder();
      encode(gpu, encoder, commands);
      gpu.device.queue.submit([encoder.finish()]);
      return new Float32Array((await gpu.read(clip))[0]!);
    },
    /** Parameter, first and second moment of each tensor: bits with padding. */
    bits: async () => (await gpu.read(...states.map(({ range }) => range))).map((copy) => new Uint32Array(copy)),
  };
}

function randomTensors(seed: number, deviation: number): Float32Array<ArrayBuffer>[] {
  return SIZES.map(([rows, cols], i) => seededNumbers(seed + i).normals(rows * cols, deviation));
}

/** The dense values of a padded (rows, cols) matrix, whose padding must be zero. */
function dense(gpu: Gpu, bits: Uint32Array, [rows, cols]: readonly [number, number]): Float32Array {
  return denseRows(bits, sumMatrix(gpu, new Float32Array(rows * cols), rows, cols));
}

/** clip = (norm, scale, finite, 0) of a gradient that is finite. */
function expectClip(clip: Float32Array, norm: number, scale: number): void {
  expect(relativeError([clip[0]!], [norm])).toBeLessThan(KERNEL_TOLERANCE);
  expect(relativeError([clip[1]!], [scale])).toBeLessThan(KERNEL_TOLERANCE);
  expect([clip[2], clip[3]]).toEqual([1, 0]);
}

describe("optimizer/adamw with optimizer/square_sum and optimizer/clip", () => {
  it.each([
    { name: "clipped and not, decayed as PyTorch does", settings: DEFAULTS },
    { name: "decayed as bitsandbytes does", settings: { ...DEFAULTS, decayLast: true, weightDecay: 0.5 } },
    { name: "never clipped", settings: { ...DEFAULTS, maxNorm: 0 } },
    { name: "other betas, epsilon that counts", settings: { ...DEFAULTS, beta1: 0.8, beta2: 0.95, epsilon: 1e-2 } },
  ])("6 steps: $name", async ({ settings }) => {
    const { gpu } = device;
    // Half of them start from zero, as LoRA's B does: then nothing but the updates is in them.
    const start = randomTensors(1, 0.1).map((tensor, i) => (i % 2 === 0 ? tensor : tensor.map(() => 0)));
    const onGpu = trainOnGpu(gpu, start, settings);
    const states = start.map(
      (parameter): reference.AdamWState => ({
        parameter: Float64Array.from(parameter),
        firstMoment: new Float64Array(parameter.length),
        secondMoment: new Float64Array(parameter.length),
      }),
    );

    for (let t = 1; t <= 6; t++) {
      // Norms of about 200, 20, 2, 0.2, … : clipped at first, then not.
      const gradients = randomTensors(10 * t, 10 ** (1 - t));
      const clip = await onGpu.step(t, gradients);
      const norm = reference.globalNorm(gradients);
      const scale = reference.clipScale(norm, settings.maxNorm);
      expectClip(clip, norm, scale);
      for (const [i, state] of states.entries()) {
        const clipped = Float64Array.from(gradients[i]!, (value) => value * scale);
        reference.adamW(state, clipped, t, settings);
      }
    }

    const bits = await onGpu.bits();
    for (const [i, size] of SIZES.entries()) {
      const { parameter, firstMoment, secondMoment } = states[i]!;
      for (const [j, expected] of [parameter, firstMoment, secondMoment].entries()) {
        expect(relativeError(dense(gpu, bits[3 * i + j]!, size), expected)).toBeLessThan(KERNEL_TOLERANCE);
      }
    }
  });

  it.each([
    ["an infinity", Number.POSITIVE_INFINITY],
    ["NaN", Number.NaN],
    ["a number whose square overflows", 1e20],
  ])("leaves every bit alone where a gradient holds %s", async (_, value) => {
    const onGpu = trainOnGpu(device.gpu, randomTensors(1, 0.1), DEFAULTS);
    await onGpu.step(1, randomTensors(2, 1));
    const before = await onGpu.bits();
    const gradients = randomTensors(3, 1);
    gradients[3]![35_001] = value;
    const clip = await onGpu.step(2, gradients);
    expect(clip[2]).toBe(0);
    expect(Number.isFinite(clip[0])).toBe(false);
    for (const [i, bits] of (await onGpu.bits()).entries()) expect(firstDifference(bits, before[i]!)).toBe(-1);
  });

  it("takes a gradient of zero", async () => {
    const { gpu } = device;
    const start = randomTensors(1, 0.1);
    const onGpu = trainOnGpu(gpu, start, { ...DEFAULTS, weightDecay: 0 });
    const zeros = start.map((parameter) => parameter.map(() => 0));
    expect(await onGpu.step(1, zeros)).toEqual(Float32Array.of(0, 1, 1, 0));
    const bits = await onGpu.bits();
    for (const [i, size] of SIZES.entries())
      expect(firstDifference(dense(gpu, bits[3 * i]!, size), start[i]!)).toBe(-1);
  });

  it("gives the same bits in a second run", async () => {
    const results = [];
    for (let repetition = 0; repetition < 2; repetition++) {
      const onGpu = trainOnGpu(device.gpu, randomTensors(1, 0.1), DEFAULTS);
      for (let t = 1; t <= 3; t++) await onGpu.step(t, randomTensors(t, 1));
      results.push(await onGpu.bits());
    }
    for (const [i, bits] of results[1]!.entries()) expect(firstDifference(bits, results[0]![i]!)).toBe(-1);
  });
});

describe("the global norm", () => {
  it.each([4, 8, 32, 64])("with reductions of %i lanes", async (lanes) => {
    const gpu = withLanes(device.gpu, lanes);
    // 64 partial sums, the most there are of one tensor, beside one of a tensor of one element.
    const sizes = [
      [600, 500],
      [1, 1],
    ] as const;
    const values = sizes.map(([rows, cols], i) => seededNumbers(i).normals(rows * cols));
    const gradients = sizes.map(([rows, cols], i) => constantMatrix(gpu, values[i]!, rows, cols));
    const count = partialCount(gradients);
    expect(count).toBe(65);
    const [partials, clip] = [count, 4].map((length): Output => {
      const range = wholeBuffer(gpu.buffer("output", length * 4));
      return { range, before: new Uint32Array(range.sizeBytes / 4).fill(UNTOUCHED) };
    }) as [Output, Output];
    const step = gpu.uniform("step", new Uint32Array(stepWords(1, DEFAULTS).buffer));
    const [, clipBits] = await run(
      gpu,
      [
        ...squareSums(gpu, gradients, partials.range),
        ...clipScale(gpu, { step, partials: partials.range, partialCount: count, clip: clip.range }),
      ],
      [partials, clip],
    );
    const norm = reference.globalNorm(values);
    expectClip(asFloats(clipBits!), norm, 1 / (norm + 1e-6));
  });
});
