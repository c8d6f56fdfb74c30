import { beforeAll, describe, expect, it } from "vitest";
import type { PackedBatch, PairTokens } from "../../src/data/pack.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import type { Stored } from "../../src/model/activations.ts";
import { type BaseWeights, tensorRanges } from "../../src/model/base-weights.ts";
import { eachFactor } from "../../src/model/lora.ts";
import { type HeadResults, PairModel } from "../../src/model/pair-model.ts";
import type { PairPlanOptions } from "../../src/model/pair-plans.ts";
import type { LlamaConfig } from "../../src/weights/llama-config.ts";
import type { LoraSettings } from "../../src/weights/peft-config.ts";
import { PROJECTIONS } from "../../src/weights/projections.ts";
import { useDevice } from "../device.ts";
import { withLanes } from "../kernels/harness.ts";
import { absoluteError, firstDifference, seededNumbers } from "../numbers.ts";
import type { ReferenceAdapter } from "../reference/llama.ts";
import {
  expectGradients,
  GRADIENT_TOLERANCE,
  LOGP_TOLERANCE,
  type NamedGradient,
  separateSequences,
} from "./separate-sequences.ts";
import {
  clearGradients,
  gradientsOf,
  logpsOf,
  ODD_CONFIG,
  packAll,
  randomPairs,
  slotsOf,
  tinyAdapter,
  tinyModel,
  trainOn,
  type UploadedModel,
  unpacked,
  uploadBase,
  uploadModel,
  withZeroB,
} from "./tiny-model.ts";

const device = useDevice();
/** 64 rows of a (·, 36) weight in f32: the embedding comes in four parts; q, k, v, gate and up in two. */
const small = useDevice({ bindingLimitBytes: 64 * 40 * 4 });

const CONFIG: LlamaConfig = {
  ...ODD_CONFIG,
  vocabSize: 201,
  heads: 7,
  keyValueHeads: 7,
  intermediateSize: 72,
};
const SETTINGS: LoraSettings = { r: 3, loraAlpha: 7.5, useRslora: false, targetModules: PROJECTIONS };
/** bf16 for what reads the wide activations, so that 64 rows of it still go into one binding. */
const tiny = tinyModel(CONFIG, (name) => (/o_proj|down_proj/.test(name) ? "bf16" : "f32"));
const adapter = tinyAdapter(CONFIG, SETTINGS);
const MAX_TOKENS = 32;

const pairs = randomPairs(
  [
    [3, 4, 2],
    [1, 1, 6],
    [5, 3, 1],
    [4, 1, 1],
  ],
  CONFIG.vocabSize,
);
const batch = packAll(pairs);
const coefficients = seededNumbers(4).normals(slotsOf(batch).length);

/** Rounding of f32 in another order of the same sums. */
const ROUNDING = 2e-6;

let weights: BaseWeights;
let model: UploadedModel;
beforeAll(async () => {
  weights = uploadBase(device.gpu, tiny);
  model = await upload();
});

function upload(options: Partial<PairPlanOptions> = {}, values: ReferenceAdapter = adapter): Promise<UploadedModel> {
  return uploadModel(device.gpu, weights, SETTINGS, values, { maxTokens: MAX_TOKENS, ...options });
}

interface Trained {
  readonly head: HeadResults;
  readonly logps: Float64Array;
  readonly gradients: { readonly name: string; readonly values: Float32Array }[];
}

/** One batch through a model whose gradients are zero before. */
async function train(
  uploaded: UploadedModel,
  ofBatch: PackedBatch,
  ofTargets: ArrayLike<number>,
  gpu: Gpu = device.gpu,
): Promise<Trained> {
  clearGradients(gpu, uploaded);
  const head = await trainOn(uploaded, ofBatch, ofTargets);
  return { head, logps: logpsOf(ofBatch, head), gradients: await gradientsOf(gpu, uploaded) };
}

function expectSameBits(actual: Trained, expected: Trained): void {
  for (const name of ["state", "best"] as const) {
    expect(firstDifference(actual.head[name], expected.head[name]), name).toBe(-1);
  }
  expect(actual.logps).toEqual(expected.logps);
  for (const [i, { name, values }] of expected.gradients.entries()) {
    expect(firstDifference(actual.gradients[i]!.values, values), name).toBe(-1);
  }
}

function added(terms: readonly (readonly NamedGradient[])[]): NamedGradient[] {
  return terms[0]!.map(({ name, values }, i) => ({
    name,
    values: Float64Array.from(values, (_, element) =>
      terms.reduce((sum, gradients) => sum + gradients[i]!.values[element]!, 0),
    ),
  }));
}

/** The part of the batch's numbers that belongs to pair i. */
function ofPair<T extends Float32Array | Float64Array>(values: T, i: number): T {
  const lengths = batch.pairs.map(({ chosenLength, rejectedLength }) => chosenLength + rejectedLength);
  const first = lengths.slice(0, i).reduce((sum, length) => sum + length, 0);
  return values.subarray(first, first + lengths[i]!) as T;
}

describe("packing", () => {
  it("changes nothing: pairs together are pairs one at a time, gradients added", async () => {
    const together = await train(model, batch, coefficients);
    const alone: Trained[] = [];
    for (const [i, pair] of pairs.entries()) {
      const trained = await train(model, packAll([pair]), ofPair(coefficients, i));
      expect(absoluteError(trained.logps, ofPair(together.logps, i))).toBeLessThan(LOGP_TOLERANCE);
      alone.push(trained);
    }
    expectGradients(together.gradients, added(alone.map(({ gradients }) => gradients)), ROUNDING);
  });

  it("has no order: pairs in reverse give the same", async () => {
    const order = [...pairs.keys()].reverse();
    const forward = await train(model, batch, coefficients);
    const reversed = await train(
      model,
      packAll(order.map((i) => pairs[i]!)),
      order.flatMap((i) => [...ofPair(coefficients, i)]),
    );
    const expected = order.flatMap((i) => [...ofPair(forward.logps, i)]);
    expect(absoluteError(reversed.logps, expected)).toBeLessThan(LOGP_TOLERANCE);
    expectGradients(reversed.gradients, forward.gradients, ROUNDING);
  });

  it("hides the answers of a pair from each other, and pairs from each other", async () => {
    const changed = (change: Partial<PairTokens>) => packAll([{ ...pairs[0]!, ...change }, ...pairs.slice(1)]);
    const score = async (ofBatch: PackedBatch) => logpsOf(ofBatch, await model.model.score(ofBatch, "policy"));
    const before = await score(batch);
    const withOtherRejected = await score(changed({ rejectedIds: [7, 8] }));
    const withOtherChosen = await score(changed({ chosenIds: [7, 8, 9, 10] }));
    const { chosenLength } = batch.pairs[0]!;
    const chosenOf = (logps: Float64Array) => ofPair(logps, 0).subarray(0, chosenLength);
    const rejectedOf = (logps: Float64Array) => ofPair(logps, 0).subarray(chosenLength);
    expect(chosenOf(withOtherRejected)).toEqual(chosenOf(before));
    expect(rejectedOf(withOtherChosen)).toEqual(rejectedOf(before));
    for (const logps of [withOtherRejected, withOtherChosen]) {
      expect(firstDifference(ofPair(logps, 0), ofPair(before, 0))).not.toBe(-1);
      for (const i of [1, 2, 3]) expect(ofPair(logps, i)).toEqual(ofPair(before, i));
    }
  });
});

describe("splitting", () => {
  it("of bindings changes nothing, and both are right", async () => {
    const smallWeights = uploadBase(small.gpu, tiny);
    expect(smallWeights.embedding.parts.length).toBe(4);
    const { projections } = smallWeights.layers[0]!;
    expect(PROJECTIONS.map((projection) => unpacked(projections[projection]).parts.length)).toEqual([
      2, 2, 2, 1, 2, 2, 1,
    ]);
    const options = { maxTokens: MAX_TOKENS };
    const inParts = await uploadModel(small.gpu, smallWeights, SETTINGS, adapter, options);

    const split = await train(inParts, batch, coefficients, small.gpu);

    const whole = await train(model, batch, coefficients);
    expect(absoluteError(split.logps, whole.logps)).toBeLessThan(LOGP_TOLERANCE);
    expectGradients(split.gradients, whole.gradients, ROUNDING);
    const expected = separateSequences(tiny.reference, adapter, pairs, coefficients);
    expect(absoluteError(split.logps, expected.policy)).toBeLessThan(LOGP_TOLERANCE);
    expectGradients(split.gradients, expected.gradients, GRADIENT_TOLERANCE);
  });

  it("of the vocabulary into chunks changes nothing", async () => {
    const inChunks = await upload({ logitsBytes: 1 });
    const chunked = await train(inChunks, batch, coefficients);
    const whole = await train(model, batch, coefficients);
    expect(absoluteError(chunked.logps, whole.logps)).toBeLessThan(LOGP_TOLERANCE);
    expect(chunked.head.best).toEqual(whole.head.best);
    expectGradients(chunked.gradients, whole.gradients, ROUNDING);
  });
});

describe("storing less and computing it again", () => {
  const deep = { ...CONFIG, layers: 3 };
  const deepAdapter = tinyAdapter(deep, SETTINGS);

  async function trained(format: "f32" | "f16", stored: Stored): Promise<Trained> {
    const deepWeights = uploadBase(
      device.gpu,
      tinyModel(deep, () => format),
    );
    const options = { maxTokens: MAX_TOKENS, stored };
    return train(await uploadModel(device.gpu, deepWeights, SETTINGS, deepAdapter, options), batch, coefficients);
  }

  it.for([
    ["f32", "without gate and up"],
    ["f32", "layer inputs"],
    ["f16", "without gate and up"],
    ["f16", "layer inputs"],
  ] as const)("%s, %s: the same gradients to the bit", async ([format, stored], { skip }) => {
    skip(format === "f16" && !device.gpu.fragments, "the device has no subgroup matrices with f16 factors");
    expectSameBits(await trained(format, stored), await trained(format, "everything"));
  });
});

describe("the adapter", () => {
  it("at B = 0 is the reference, to the last bit", async () => {
    const { model: untrained } = await upload({}, withZeroB(adapter));
    const policy = await untrained.score(batch, "policy");
    const reference = await untrained.score(batch, "reference");
    for (const name of ["state", "best"] as const) {
      expect(firstDifference(policy[name], reference[name]), name).toBe(-1);
    }
    expect(logpsOf(batch, policy)).toEqual(logpsOf(batch, reference));
  });

  it("at B = 0 has a gradient in every B and none in A", async () => {
    const { gradients } = await train(await upload({}, withZeroB(adapter)), batch, coefficients);
    for (const { name, values } of gradients) {
      expect(
        values.some((value) => value !== 0),
        name,
      ).toBe(name.endsWith(" b"));
    }
  });
});

describe("training a batch", () => {
  it("leaves base and adapter as they were, bit for bit", async () => {
    const { gpu } = device;
    const ranges = [
      ...[...weights.tensors.values()].flatMap(tensorRanges),
      ...[...eachFactor(model.adapter.layers)].map(({ matrix }) => matrix.range),
    ];
    const before = await gpu.read(...ranges);
    await train(model, batch, coefficients);
    await model.model.score(batch, "reference");
    const after = await gpu.read(...ranges);
    for (const [i, bytes] of before.entries()) {
      expect(firstDifference(new Uint8Array(after[i]!), new Uint8Array(bytes)), ranges[i]!.buffer.label).toBe(-1);
    }
  });

  it("twice gives the same bits, with other batches in between", async () => {
    const first = await train(model, packAll(pairs.slice(2)), ofTwoPairs(coefficients));
    await train(model, batch, coefficients);
    await model.model.score(batch, "reference");
    const second = await train(model, packAll(pairs.slice(2)), ofTwoPairs(coefficients));
    expectSameBits(second, first);
  });

  function ofTwoPairs(values: Float32Array): number[] {
    return [...ofPair(values, 2), ...ofPair(values, 3)];
  }

  it("in buffers of just its size gives the same bits", async () => {
    const fitting = await upload({ maxTokens: batch.tokens.length });
    expectSameBits(await train(fitting, batch, coefficients), await train(model, batch, coefficients));
  });

  it("adds to the gradients: the same batch again doubles them exactly", async () => {
    const once = await train(model, batch, coefficients);
    await trainOn(model, batch, coefficients);
    for (const [i, { name, values }] of (await gradientsOf(device.gpu, model)).entries()) {
      const doubled = once.gradients[i]!.values.map((value) => 2 * value);
      expect(firstDifference(values, doubled), name).toBe(-1);
    }
  });

  it("is linear in the coefficients: none gives nothing, four times as much exactly four times", async () => {
    const once = await train(model, batch, coefficients);
    const none = await train(
      model,
      batch,
      coefficients.map(() => 0),
    );
    const fourfold = await train(
      model,
      batch,
      coefficients.map((value) => 4 * value),
    );
    for (const [i, { name, values }] of once.gradients.entries()) {
      expect(
        none.gradients[i]!.values.every((value) => value === 0),
        name,
      ).toBe(true);
      const expected = values.map((value) => 4 * value);
      expect(firstDifference(fourfold.gradients[i]!.values, expected), name).toBe(-1);
    }
  });

  it("that does not fit the model is refused", async () => {
    const rows = batch.tokens.length;
    const tooSmall = await upload({ maxTokens: rows - 1 });
    await expect(tooSmall.model.score(batch, "policy")).rejects.toThrow(
      `${rows} rows in tokens count of at most ${rows - 1}`,
    );
    const tooShort = await upload({ maxPositions: 6 });
    await expect(tooShort.model.score(batch, "policy")).rejects.toThrow(
      "internal: position 6 in a model of 6 positions",
    );
    const unknown = packAll([{ promptIds: [1], chosenIds: [CONFIG.vocabSize, 2], rejectedIds: [3] }]);
    await expect(train(model, unknown, [1, 1, 1])).rejects.toThrow("internal: token 201 in a model of 201 tokens");
    await expect(model.model.score(batch, "policy")).resolves.toBeDefined();
  });

  it("is refused by a model that only scores, and by one whose kernels are not compiled yet", async () => {
    const { model: scorer } = await upload({ gradients: null });
    await expect(scorer.train(batch, () => new Float32Array())).rejects.toThrow(
      "internal: this model has no gradients",
    );
    const gpu = withLanes(device.gpu, 64); // Nothing is compiled for these lanes.
    const { adapter: factors, gradients } = model;
    const cold = new PairModel({ gpu, weights, adapter: factors, gradients, maxTokens: MAX_TOKENS, maxPositions: 16 });
    await expect(cold.train(batch, () => new Float32Array())).rejects.toThrow("was used before it was ready");
    await gpu.pipelines.ready();
  });
});
