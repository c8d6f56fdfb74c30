import { describe, expect, it } from "vitest";
import type { OptimizerSettings } from "../../src/train/optimizer.ts";
import { useDevice } from "../device.ts";
import { KERNEL_TOLERANCE, type Numbers, relativeError, seededNumbers } from "../numbers.ts";
import * as reference from "../reference/optimizer.ts";
import { withLanes } from "./harness.ts";
import {
  decoded,
  SETTINGS,
  SIGNED_MAP,
  type StoredMoment,
  stateBits,
  type Tensor,
  type TensorState,
  trainTensors,
  UNSIGNED_MAP,
} from "./optimizer-run.ts";

// Each step of optimizer/adamw_8bit against float64, from the state that the step before left on the GPU.

const device = useDevice();

/** Whole blocks, a last block of one element, of 64, and rows with padding; one element too few for 8 bits; one element. */
const SHAPES = [
  [1, 4096],
  [4097, 1],
  [64, 65],
  [37, 113],
  [4095, 1],
  [1, 1],
] as const;

/** Half of them start from zero, as LoRA's B does: then nothing but the updates is in them. */
function randomTensors(seed: number): Tensor[] {
  return SHAPES.map((shape, i) => {
    const values = seededNumbers(seed + i).normals(shape[0] * shape[1], 0.1);
    return { shape, values: i % 2 === 0 ? values : values.map(() => 0) };
  });
}

/** Normal numbers of several sizes, with zeros, a block of zeros and one of a constant among them. */
function randomGradients(seed: number, deviation: number): Float32Array[] {
  return SHAPES.map(([rows, cols], i) => {
    const random = seededNumbers(seed + i);
    return random.normals(rows * cols, deviation).map((value, e) => {
      const block = Math.floor(e / 256);
      if (block === 3) return 0;
      if (block === 4) return deviation;
      return e % 7 === 0 ? 0 : value * 10 ** -(e % 5);
    });
  });
}

/** What a step makes of a tensor in float64. */
function expectedStep(
  before: TensorState,
  gradient: Numbers,
  { t, learningRate, clip }: { t: number; learningRate: number; clip: number },
  settings: OptimizerSettings,
): reference.AdamWState {
  const { length } = before.parameter;
  const state: reference.AdamWState = {
    parameter: Float64Array.from(before.parameter),
    firstMoment: before.kind === "8bit" ? decoded(before.m, SIGNED_MAP, length) : Float64Array.from(before.m),
    secondMoment: before.kind === "8bit" ? decoded(before.v, UNSIGNED_MAP, length) : Float64Array.from(before.v),
  };
  const clipped = Float64Array.from(gradient, (value) => clip * value);
  reference.adamW(state, clipped, t, {
    ...settings,
    beta1: Math.fround(settings.beta1),
    beta2: Math.fround(settings.beta2),
    learningRate,
    decayLast: true,
  });
  return state;
}

/** Every absmax is its block's, every byte the nearest code: to the rounding of the moment in f32. */
function expectStored(stored: StoredMoment, moment: Float64Array, terms: Float64Array, map: Float32Array): void {
  expect(relativeError(stored.absmax, reference.blockAbsmax(moment))).toBeLessThan(KERNEL_TOLERANCE);
  const wrong = moment.findIndex((value, e) => {
    const absmax = stored.absmax[Math.floor(e / 256)]!;
    if (absmax === 0) return value !== 0;
    const slack = (KERNEL_TOLERANCE * terms[e]!) / absmax;
    const code = map[stored.bytes[e]!]!;
    // A moment that is 0 but for rounding may have either sign.
    const distances = [-slack, slack].map((shift) => {
      const x = value / absmax + shift;
      return Math.abs(code - x) - Math.abs(map[reference.nearestCode(map, x)]! - x);
    });
    return !(Math.min(...distances) <= 2 * slack);
  });
  expect(wrong, "a byte that is not the nearest code").toBe(-1);
  expect(stored.bytes.findLastIndex((byte) => byte !== 0)).toBeLessThan(moment.length);
}

function expectStep(
  before: TensorState,
  after: TensorState,
  gradient: Numbers,
  at: { t: number; learningRate: number; clip: number },
  settings: OptimizerSettings,
): void {
  const { parameter, firstMoment, secondMoment } = expectedStep(before, gradient, at, settings);
  expect(relativeError(after.parameter, parameter)).toBeLessThan(KERNEL_TOLERANCE);
  expect(after.kind).toBe(parameter.length >= 4096 ? "8bit" : "f32");
  if (after.kind === "f32") {
    expect(relativeError(after.m, firstMoment)).toBeLessThan(KERNEL_TOLERANCE);
    expect(relativeError(after.v, secondMoment)).toBeLessThan(KERNEL_TOLERANCE);
    return;
  }
  // m may be the small difference of large terms, whose rounding it has.
  const terms = firstMoment.map((value, e) => Math.abs(value) + Math.abs(at.clip * gradient[e]!));
  expectStored(after.m, firstMoment, terms, SIGNED_MAP);
  expectStored(after.v, secondMoment, secondMoment, UNSIGNED_MAP);
}

async function expectSteps(gpu: typeof device.gpu, settings: OptimizerSettings): Promise<void> {
  const tensors = randomTensors(1);
  const trained = trainTensors(gpu, tensors, settings);
  let before = await trained.states();
  for (let t = 1; t <= 4; t++) {
    // Norms of about 80, 8, 0.8, 0.08: clipped at first, then not.
    const gradients = randomGradients(10 * t, 10 ** (1 - t));
    const learningRate = t * 1e-3;
    const norm = reference.globalNorm(gradients);
    const { gradNorm, applied } = await trained.step(t, learningRate, gradients);
    expect(applied).toBe(true);
    expect(relativeError([gradNorm], [norm])).toBeLessThan(KERNEL_TOLERANCE);
    expect((await trained.sums()).every((sum) => sum.every((value) => value === 0))).toBe(true);

    const after = await trained.states();
    const at = { t, learningRate, clip: reference.clipScale(norm, settings.maxGradNorm) };
    for (const i of tensors.keys()) expectStep(before[i]!, after[i]!, gradients[i]!, at, settings);
    before = after;
  }
}

describe("optimizer/adamw_8bit against float64", () => {
  it.each([
    { name: "clipped and not", settings: SETTINGS },
    { name: "never clipped, decayed much", settings: { ...SETTINGS, maxGradNorm: 0, weightDecay: 10 } },
    { name: "other betas, epsilon that counts", settings: { ...SETTINGS, beta1: 0.8, beta2: 0.95, epsilon: 1e-2 } },
    { name: "no memory", settings: { ...SETTINGS, beta1: 0, beta2: 0, weightDecay: 0 } },
  ])("4 steps: $name", ({ settings }) => expectSteps(device.gpu, settings));

  it.each([4, 8, 64])("%i lanes", (lanes) => expectSteps(withLanes(device.gpu, lanes), SETTINGS));
});

describe("a tensor of more workgroups than a row of the grid has", () => {
  // 2897 · 2899 elements are 32,807 blocks of 256, and more than 2^15 · 64 vec4.
  const shape = [2897, 2899] as const;
  const length = shape[0] * shape[1];
  // One magnitude to a block, its own: then every |m| is its block's absmax.
  const gradient = new Float32Array(length);
  for (let e = 0; e < length; e++) gradient[e] = (Math.imul(e, 0x9e3779b1) < 0 ? -1 : 1) * (1 + (e >> 8));

  it.each(["adamw_8bit", "adamw"] as const)("%s", async (optim) => {
    const settings = { ...SETTINGS, optim, maxGradNorm: 0 };
    const learningRate = 1e-3;
    const tensors = [
      { shape, values: new Float32Array(length).fill(0.5) },
      { shape: [1, 1] as const, values: Float32Array.of(0) },
    ];
    const trained = trainTensors(device.gpu, tensors, settings);
    await trained.step(1, learningRate, [gradient, Float32Array.of(0)]);
    const { parameter, m } = (await trained.states())[0]!;

    // Step 1 moves every element by the learning rate, against its gradient's sign.
    const decay = 1 - learningRate * settings.weightDecay;
    const decayed = (sign: number) =>
      optim === "adamw" ? 0.5 * decay - learningRate * sign : (0.5 - learningRate * sign) * decay;
    const [afterPlus, afterMinus] = [decayed(1), decayed(-1)];
    let wrong = 0;
    for (let e = 0; e < length; e++) {
      const isPlus = gradient[e]! > 0;
      if (!(Math.abs(parameter[e]! - (isPlus ? afterPlus : afterMinus)) < KERNEL_TOLERANCE)) wrong++;
      // The signed map ends at 1, but begins at −0.993.
      if ("bytes" in m && m.bytes[e] !== (isPlus ? 255 : 0)) wrong++;
    }
    expect(wrong, "elements").toBe(0);
    expect("bytes" in m).toBe(optim === "adamw_8bit");
    if (!("bytes" in m)) return;
    const expected = Float64Array.from(m.absmax, (_, block) => (1 - Math.fround(settings.beta1)) * (1 + block));
    expect(relativeError(m.absmax, expected)).toBeLessThan(KERNEL_TOLERANCE);
  });
});

describe("a gradient that is not finite", () => {
  it.each([
    ["an infinity", Number.NEGATIVE_INFINITY],
    ["NaN", Number.NaN],
    ["a number whose square overflows", 1e20],
  ])("leaves every bit alone: %s", async (_, value) => {
    const tensors = randomTensors(2);
    const trained = trainTensors(device.gpu, tensors, SETTINGS);
    const undisturbed = trainTensors(device.gpu, tensors, SETTINGS);
    const [first, second, next] = [5, 6, 7].map((seed) => randomGradients(seed, 1));
    for (const of of [trained, undisturbed]) await of.step(1, 1e-3, first!);
    const before = await trained.states();

    second![2]![4159] = value; // The last element of the last, partial block.
    const update = await trained.step(2, 1e-3, second!);

    expect(update.applied).toBe(false);
    expect(Number.isFinite(update.gradNorm)).toBe(false);
    expect((await trained.states()).map(stateBits)).toEqual(before.map(stateBits));
    expect((await trained.sums()).every((sum) => sum.every((element) => element === 0))).toBe(true);
    for (const of of [trained, undisturbed]) await of.step(2, 1e-3, next!);
    expect((await trained.states()).map(stateBits)).toEqual((await undisturbed.states()).map(stateBits));
  });
});

it("two runs of optimizer/adamw_8bit are equal to the bit", async () => {
  const results = [];
  for (let repetition = 0; repetition < 2; repetition++) {
    const trained = trainTensors(device.gpu, randomTensors(3), SETTINGS);
    for (let t = 1; t <= 3; t++) await trained.step(t, 1e-3, randomGradients(t, 1));
    results.push((await trained.states()).map(stateBits));
  }
  expect(results[1]).toEqual(results[0]);
});
