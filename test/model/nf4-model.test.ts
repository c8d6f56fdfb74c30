import { describe, expect, it } from "vitest";
import { type BaseWeights, createBaseWeights } from "../../src/model/base-weights.ts";
import { TensorUploader } from "../../src/model/upload.ts";
import type { WeightFormat } from "../../src/ops/matrix.ts";
import { dynamicMap } from "../../src/weights/dynamic-map.ts";
import { f16ToNumber, numberToF16 } from "../../src/weights/half.ts";
import type { LoraSettings } from "../../src/weights/peft-config.ts";
import { PROJECTIONS } from "../../src/weights/projections.ts";
import { useDevice } from "../device.ts";
import { firstDifference, roundedToBf16, seededNumbers } from "../numbers.ts";
import { dequantize, quantizeTwice } from "../reference/nf4.ts";
import {
  gradientsOf,
  logpsOf,
  ODD_CONFIG,
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

// A model whose projections are kept in 4 bits trains as one whose projections were unpacked on the host: to the bit.

const device = useDevice();
/** 64 rows of the widest projection in f32: all of them are unpacked in parts. */
const small = useDevice({ bindingLimitBytes: 64 * 72 * 4 });

const CONFIG = { ...ODD_CONFIG, heads: 7, keyValueHeads: 7 };
const SETTINGS: LoraSettings = { r: 3, loraAlpha: 6, useRslora: false, targetModules: PROJECTIONS };
const adapter = tinyAdapter(CONFIG, SETTINGS);
const batch = packAll(
  randomPairs(
    [
      [3, 4, 2],
      [5, 3, 6],
    ],
    CONFIG.vocabSize,
  ),
);
const coefficients = seededNumbers(4).normals(slotsOf(batch).length);

/** The model with its projections through 4 bits and back, rounded to the format that products take them in. */
function throughNf4(model: TinyModel, format: WeightFormat): TinyModel {
  const map = dynamicMap(true);
  const round = {
    bf16: roundedToBf16,
    f16: (values: Float32Array) => values.map((value) => f16ToNumber(numberToF16(value))),
    f32: (values: Float32Array) => values,
  }[format];
  const tensors = new Map(
    [...model.tensors].map(([name, values]) => {
      return [name, name.includes("_proj") ? round(dequantize(quantizeTwice(values, map), map)) : values] as const;
    }),
  );
  return { ...model, tensors };
}

/** Brings the model's f32 values into 4 bits as a file's are. */
async function uploadIn4Bit(gpu: typeof device.gpu, { config, formatOf, tensors }: TinyModel): Promise<BaseWeights> {
  const weights = createBaseWeights(gpu, config, formatOf, true);
  const uploader = new TensorUploader(gpu, weights.tensors);
  const pieces = [...tensors].map(async ([name, values]) => {
    const bytes = new Uint8Array(Float32Array.from(values).buffer);
    const perPiece = name.includes("_proj") ? 128 * 4 : bytes.byteLength; // Several pieces, of whole blocks.
    for (let done = 0; done < bytes.byteLength; done += perPiece) {
      await uploader.upload(name, "F32", done / 4, bytes.subarray(done, done + perPiece));
    }
  });
  await Promise.all(pieces); // All tensors at once, as files are read side by side.
  const losses = await uploader.finish();
  uploader.destroy();
  expect([...losses.values()].some(({ isNotFinite }) => isNotFinite)).toBe(false);
  return weights;
}

describe.each(["f32", "bf16", "f16"] as const)("products in %s", (format) => {
  it.for([
    ["in one binding", device],
    ["in parts", small],
  ] as const)("%s", async ([, on], { skip }) => {
    const { gpu } = on;
    skip(format === "f16" && !gpu.fragments, "the device has no subgroup matrices with f16 factors");
    // Embedding and head are as large as in a plain model; f32 takes them whatever the projections' format is.
    const formatOf = (name: string): WeightFormat => (format === "f16" || name.includes("_proj") ? format : "f32");
    const model = tinyModel(CONFIG, formatOf);
    const train = async (weights: BaseWeights) => {
      const uploaded = await uploadModel(gpu, weights, SETTINGS, adapter);
      const head = await trainOn(uploaded, batch, coefficients);
      return { logps: logpsOf(batch, head), gradients: await gradientsOf(gpu, uploaded) };
    };
    const in4Bit = await train(await uploadIn4Bit(gpu, model));
    const unpacked = await train(uploadBase(gpu, throughNf4(model, format)));
    expect(in4Bit.logps).toEqual(unpacked.logps);
    for (const [i, { name, values }] of unpacked.gradients.entries()) {
      expect(firstDifference(in4Bit.gradients[i]!.values, values), name).toBe(-1);
    }
  });
});

it("names a tensor that has a value that is not finite", async () => {
  const { gpu } = device;
  const model = tinyModel(CONFIG, () => "f32");
  const name = [...model.tensors.keys()].find((tensor) => tensor.includes("1.mlp.up_proj"))!;
  model.tensors.get(name)![70] = Number.NaN;
  const weights = createBaseWeights(gpu, CONFIG, () => "f32", true);
  const uploader = new TensorUploader(gpu, weights.tensors);
  for (const [tensor, values] of model.tensors) {
    await uploader.upload(tensor, "F32", 0, new Uint8Array(Float32Array.from(values).buffer));
  }
  const losses = await uploader.finish();
  uploader.destroy();
  expect([...losses].filter(([, { isNotFinite }]) => isNotFinite).map(([tensor]) => tensor)).toEqual([name]);
});
