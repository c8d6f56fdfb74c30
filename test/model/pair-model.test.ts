import { beforeAll, describe, expect, it } from "vitest";
import type { BaseWeights } from "../../src/model/base-weights.ts";
import type { LlamaConfig } from "../../src/weights/llama-config.ts";
import { EMBEDDING_NAME } from "../../src/weights/llama-tensors.ts";
import type { LoraSettings } from "../../src/weights/peft-config.ts";
import { PROJECTIONS, type Projection } from "../../src/weights/projections.ts";
import { useDevice } from "../device.ts";
import { absoluteError, seededNumbers } from "../numbers.ts";
import { expectGradients, GRADIENT_TOLERANCE, LOGP_TOLERANCE, separateSequences } from "./separate-sequences.ts";
import {
  type FormatOf,
  gradientsOf,
  logpsOf,
  ODD_CONFIG,
  PAIR_LENGTHS,
  packAll,
  randomPairs,
  slotsOf,
  type TinyModel,
  tinyAdapter,
  tinyModel,
  trainOn,
  uploadBase,
  uploadModel,
} from "./tiny-model.ts";

const device = useDevice();

/** The GPU on packed pairs against float64 on separate sequences. */
async function compare(tiny: TinyModel, weights: BaseWeights, settings: LoraSettings): Promise<void> {
  const { gpu } = device;
  const adapter = tinyAdapter(tiny.config, settings);
  const uploaded = await uploadModel(gpu, weights, settings, adapter);
  const pairs = randomPairs(PAIR_LENGTHS, tiny.config.vocabSize);
  const batch = packAll(pairs);
  const coefficients = seededNumbers(4).normals(slotsOf(batch).length);
  const expected = separateSequences(tiny.reference, adapter, pairs, coefficients);
  expect(absoluteError(expected.policy, expected.base)).toBeGreaterThan(0.01);

  const policy = logpsOf(batch, await uploaded.model.score(batch, "policy"));
  const base = logpsOf(batch, await uploaded.model.score(batch, "reference"));
  const trained = logpsOf(batch, await trainOn(uploaded, batch, coefficients));

  expect(absoluteError(policy, expected.policy)).toBeLessThan(LOGP_TOLERANCE);
  expect(absoluteError(base, expected.base)).toBeLessThan(LOGP_TOLERANCE);
  expect(absoluteError(trained, expected.policy)).toBeLessThan(LOGP_TOLERANCE);
  expectGradients(await gradientsOf(gpu, uploaded), expected.gradients, GRADIENT_TOLERANCE);
}

interface Variant {
  readonly name: string;
  readonly config: LlamaConfig;
  readonly formatOf: FormatOf;
  readonly settings: Omit<LoraSettings, "targetModules">;
  /** Sets of modules to adapt. */
  readonly targets: readonly (readonly Projection[])[];
}

const VARIANTS: readonly Variant[] = [
  {
    name: "multi-head, tied, f32, odd sizes, rank 3 at scale 2.5",
    config: ODD_CONFIG,
    formatOf: () => "f32",
    settings: { r: 3, loraAlpha: 7.5, useRslora: false },
    targets: [PROJECTIONS, ...PROJECTIONS.map((projection) => [projection])],
  },
  {
    name: "grouped queries, untied, bf16, llama3 rope, rank 8 at scale 0.5",
    config: {
      ...ODD_CONFIG,
      vocabSize: 130,
      hiddenSize: 48,
      intermediateSize: 72,
      heads: 4,
      keyValueHeads: 2,
      headDim: 16,
      rmsNormEps: 1e-5,
      tieWordEmbeddings: false,
      rope: {
        theta: 500_000,
        scaling: { factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositionEmbeddings: 16 },
      },
    },
    formatOf: () => "bf16",
    settings: { r: 8, loraAlpha: 4, useRslora: false },
    targets: [PROJECTIONS, ["q_proj", "v_proj"]],
  },
  {
    name: "one key-value head, tied, bf16 with an f32 embedding, one layer, rank-stabilized rank 17",
    config: { ...ODD_CONFIG, layers: 1, hiddenSize: 40, intermediateSize: 64, heads: 2, keyValueHeads: 1, headDim: 6 },
    formatOf: (name) => (name === EMBEDDING_NAME ? "f32" : "bf16"),
    settings: { r: 17, loraAlpha: 8, useRslora: true },
    targets: [PROJECTIONS],
  },
  {
    name: "multi-head, untied, f32 with a bf16 head, vocabulary of one chunk, rank 1",
    config: { ...ODD_CONFIG, layers: 1, vocabSize: 37, tieWordEmbeddings: false },
    formatOf: (name) => (name === "lm_head.weight" ? "bf16" : "f32"),
    settings: { r: 1, loraAlpha: 3, useRslora: false },
    targets: [["gate_proj", "down_proj"]],
  },
];

describe.each(VARIANTS)("$name", ({ config, formatOf, settings, targets }) => {
  const tiny = tinyModel(config, formatOf);
  let weights: BaseWeights;
  beforeAll(() => {
    weights = uploadBase(device.gpu, tiny);
  });

  it.each(targets.map((targetModules) => ({ names: targetModules.join(), targetModules })))(
    "adapting $names",
    ({ targetModules }) => compare(tiny, weights, { ...settings, targetModules }),
  );
});
