import { beforeAll, describe, expect, it } from "vitest";
import { PROJECTIONS } from "../../src/weights/projections.ts";
import { useDevice } from "../device.ts";
import { absoluteError } from "../numbers.ts";
import * as reference from "../reference/head.ts";
import { llamaLogps, type ReferenceAdapter } from "../reference/llama.ts";
import { packedSequence } from "../reference/sequences.ts";
import {
  ODD_CONFIG,
  PAIR_LENGTHS,
  packAll,
  randomPairs,
  tinyAdapter,
  tinyModel,
  type UploadedModel,
  uploadBase,
  uploadModel,
  withZeroB,
} from "./tiny-model.ts";

// PairModel.divergence: the exact KL between the adapted model and its base, at each row that predicts a token.

const device = useDevice();

const SETTINGS = { r: 3, loraAlpha: 7.5, useRslora: false, targetModules: PROJECTIONS };
const tiny = tinyModel(ODD_CONFIG, () => "f32");
const pairs = randomPairs(PAIR_LENGTHS, ODD_CONFIG.vocabSize);
const batch = packAll(pairs);

/** In float64, from the log-probability of every token of the vocabulary at every head row. */
function expectedDivergence(adapter: ReferenceAdapter): Float64Array {
  const { vocabSize } = ODD_CONFIG;
  const targets = Array.from(batch.headRows, (row) =>
    Array.from({ length: vocabSize }, (_, token) => ({ row, token })),
  ).flat();
  const everything = { ...packedSequence(pairs), targets };
  const [policy, base] = [adapter, null].map((of) => llamaLogps(tiny.reference, of, everything));
  return reference.divergence(policy!, base!, vocabSize);
}

describe("PairModel.divergence", () => {
  let trained: UploadedModel;
  let fresh: UploadedModel;
  const adapter = tinyAdapter(ODD_CONFIG, SETTINGS);
  beforeAll(async () => {
    const weights = uploadBase(device.gpu, tiny);
    // Logits in chunks of 64 tokens, seven for the vocabulary of 401.
    const options = { divergence: true, logitsBytes: 64 * 64 * 4 };
    trained = await uploadModel(device.gpu, weights, SETTINGS, adapter, options);
    fresh = await uploadModel(device.gpu, weights, SETTINGS, withZeroB(adapter), options);
  });

  it("is the float64 KL over the whole vocabulary", async () => {
    const expected = expectedDivergence(adapter);
    expect(Math.min(...expected)).toBeGreaterThan(0.01);
    expect(absoluteError(await trained.model.divergence(batch), expected)).toBeLessThan(1e-5);
  });

  it("is exactly 0 of an adapter whose B is 0", async () => {
    expect(await fresh.model.divergence(batch)).toEqual(new Float64Array(batch.headRows.length));
  });

  it("leaves the scores as they are", async () => {
    const before = await trained.model.score(batch, "policy");
    await trained.model.divergence(batch);
    expect(await trained.model.score(batch, "policy")).toEqual(before);
  });

  it("is refused by a model that was not made for it", async () => {
    const { model } = await uploadModel(device.gpu, trained.weights, SETTINGS, adapter);
    await expect(model.divergence(batch)).rejects.toThrow("internal: this model was not made for divergences");
  });
});
