import { describe, expect, it } from "vitest";
import { dynamicMap, dynamicMaps } from "../../src/weights/dynamic-map.ts";
import { useDevice } from "../device.ts";
import { readGoldenJson, readTensors } from "../golden/read.ts";
import { F32_ROUNDING, firstDifference, relativeError } from "../numbers.ts";
import { withLanes } from "./harness.ts";
import { SETTINGS, type StoredMoment, type Tensor, type TensorState, trainTensors } from "./optimizer-run.ts";

// optimizer/adamw and optimizer/adamw_8bit over six steps against PyTorch and bitsandbytes: see test/golden/README.md.

const device = useDevice();

const golden = readGoldenJson<{
  shapes: Record<string, [number, number]>;
  learning_rates: number[];
  betas: [number, number];
  eps: number;
  signed_map: number[];
  unsigned_map: number[];
}>("adamw8bit.json");
const tensors = readTensors("adamw8bit.safetensors");
const torchTensors = readTensors("adamw.safetensors");

const NAMES = ["exact", "partial", "small"];
const DECAYS = [0, 0.01];

function floats(key: string, of = tensors): Float32Array {
  const tensor = of.get(key);
  if (tensor?.dtype !== "F32") throw new Error(`no float32 tensor ${key}`);
  return tensor.data as Float32Array;
}

/** The golden tensors and one that nothing happens to, because the optimizer takes pairs. */
const starts: Tensor[] = [
  ...NAMES.map((name) => ({ shape: golden.shapes[name]!, values: floats(`${name}/p/0`) })),
  { shape: [1, 1], values: Float32Array.of(0) },
];

/** The state of each tensor after each of the six steps. */
async function trainGolden(gpu: typeof device.gpu, optim: "adamw" | "adamw_8bit", weightDecay: number) {
  const [beta1, beta2] = golden.betas;
  const settings = { ...SETTINGS, optim, beta1, beta2, epsilon: golden.eps, weightDecay, maxGradNorm: 0 };
  const trained = trainTensors(gpu, starts, settings);
  const perStep: TensorState[][] = [];
  for (const [i, learningRate] of golden.learning_rates.entries()) {
    const gradients = NAMES.map((name) => floats(`${name}/grad/${i + 1}`));
    const { applied } = await trained.step(i + 1, learningRate, [...gradients, Float32Array.of(0)]);
    expect(applied).toBe(true);
    perStep.push(await trained.states());
  }
  return perStep;
}

/** Roundings of half a unit in the last place that a parameter's update may add up to, on either side. */
const ROUNDING = 16 * F32_ROUNDING;

/** bitsandbytes takes 1 − β2ᵗ in float32, where t = 1 and 2 leave few digits; we take it in float64, as PyTorch does. */
function correctionError(t: number): number {
  return F32_ROUNDING / 2 / (1 - golden.betas[1] ** t);
}

/**
 * The largest error of a parameter over the steps as a share of what is allowed: ROUNDING of its start and of each step's
 * update, and `updateError` of the update besides.
 */
function worstError(
  states: readonly TensorState[],
  start: Float32Array,
  expectedAt: (t: number) => Float32Array,
  updateError: (t: number) => number,
): number {
  let worst = 0;
  const allowed = Float64Array.from(start, (value) => ROUNDING * Math.abs(value));
  let before = start;
  for (const [i, { parameter }] of states.entries()) {
    const expected = expectedAt(i + 1);
    for (const [e, value] of expected.entries()) {
      allowed[e]! += (ROUNDING + updateError(i + 1)) * Math.abs(value - before[e]!);
      worst = Math.max(worst, Math.abs(parameter[e]! - value) / allowed[e]!);
    }
    before = expected;
  }
  return worst;
}

/** Where a byte differs from the golden code, −1 for nowhere. In a block of zeros codes mean nothing. */
function firstWrongCode({ bytes }: StoredMoment, codes: Uint8Array, absmax: Float32Array): number {
  return codes.findIndex((code, e) => absmax[Math.floor(e / 256)] !== 0 && bytes[e] !== code);
}

function relativeToEach(actual: Float32Array, expected: Float32Array): number {
  expect(actual.length).toBe(expected.length);
  return expected.reduce((worst, value, i) => {
    const error = value === 0 ? Math.abs(actual[i]!) : Math.abs(actual[i]! / value - 1);
    return Math.max(error, worst);
  }, 0);
}

describe("dynamic maps", () => {
  it.each([
    { signed: true, map: golden.signed_map },
    { signed: false, map: golden.unsigned_map },
  ])("signed $signed: bitsandbytes' own, to the bit", ({ signed, map }) => {
    expect(map.length).toBe(256);
    expect(firstDifference(dynamicMap(signed), Float32Array.from(map))).toBe(-1);
  });

  it("stand one after the other for the kernel", () => {
    expect(dynamicMaps()).toEqual(Float32Array.of(...golden.signed_map, ...golden.unsigned_map));
  });
});

describe("optimizer/adamw against torch.optim.AdamW", () => {
  it.each(DECAYS)("weight decay %f", async (decay) => {
    const perStep = await trainGolden(device.gpu, "adamw", decay);
    for (const [i, name] of NAMES.entries()) {
      const states = perStep.map((step) => step[i]!);
      const error = worstError(
        states,
        starts[i]!.values,
        (t) => floats(`${name}/decay-${decay}/p/${t}`, torchTensors),
        () => 0,
      );
      expect(error, name).toBeLessThan(1);
    }
  });
});

describe("optimizer/adamw_8bit against bitsandbytes' CUDA kernels", () => {
  it.each([
    ...DECAYS.map((decay) => ({ decay, lanes: "the adapter's" as const })),
    ...[4, 8, 32, 64].map((lanes) => ({ decay: 0.01, lanes })),
  ])("weight decay $decay, $lanes lanes", async ({ decay, lanes }) => {
    const gpu = typeof lanes === "number" ? withLanes(device.gpu, lanes) : device.gpu;
    const perStep = await trainGolden(gpu, "adamw_8bit", decay);
    for (const [i, name] of NAMES.entries()) {
      const states = perStep.map((step) => step[i]!);
      const error = worstError(
        states,
        starts[i]!.values,
        (t) => floats(`cuda/${name}/decay-${decay}/p/${t}`),
        correctionError,
      );
      expect(error, name).toBeLessThan(1);

      for (const [step, { kind, m, v }] of states.entries()) {
        const at = (key: string) => `cuda/${name}/${key}/${step + 1}`;
        const where = `${name}, step ${step + 1}`;
        expect(kind, where).toBe(name === "small" ? "f32" : "8bit");
        for (const [number, moment] of [m, v].entries()) {
          const ofMoment = `${where}, ${"mv"[number]}`;
          if (!("bytes" in moment)) {
            expect(relativeError(moment, floats(at("mv"[number]!))), ofMoment).toBeLessThan(ROUNDING);
            continue;
          }
          const absmax = floats(at(`absmax${number + 1}`));
          const codes = tensors.get(at(`codes${number + 1}`))!.data as Uint8Array;
          expect(relativeToEach(moment.absmax, absmax), ofMoment).toBeLessThan(ROUNDING);
          expect(firstWrongCode(moment, codes, absmax), ofMoment).toBe(-1);
          expect(
            moment.bytes.subarray(codes.length).every((byte) => byte === 0),
            ofMoment,
          ).toBe(true);
        }
      }
    }
  });
});
