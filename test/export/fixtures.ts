import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { encodeFloats, type FloatDtype } from "../../src/weights/half.ts";
import { type LlamaConfig, parseLlamaConfig } from "../../src/weights/llama-config.ts";
import { llamaTensors, projectionName } from "../../src/weights/llama-tensors.ts";
import { type ModelFolder, openModelFolder } from "../../src/weights/model-folder.ts";
import type { LoraAdapter } from "../../src/weights/peft-adapter.ts";
import { type LoraSettings, loraScale } from "../../src/weights/peft-config.ts";
import { PROJECTIONS, type Projection, projectionSize } from "../../src/weights/projections.ts";
import { seededNumbers } from "../numbers.ts";
import { loraUpdate } from "../reference/merge.ts";
import { modelFolder, type TestTensor, tensorFile } from "../weights/fixtures.ts";

/** Multiples of neither 4 nor 8 in any size. */
export const ODD_CONFIG = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  vocab_size: 45,
  hidden_size: 36,
  intermediate_size: 50,
  num_hidden_layers: 2,
  num_attention_heads: 3,
  num_key_value_heads: 1,
  head_dim: 10,
  rms_norm_eps: 1e-5,
  torch_dtype: "bfloat16",
};

export const ALL_PROJECTIONS: LoraSettings = { r: 3, loraAlpha: 7, useRslora: false, targetModules: PROJECTIONS };

export type Values = Map<string, Float32Array<ArrayBuffer>>;

/** Random weights by name, exact in `dtype`, in the order of the model. */
export function randomWeights(config: object, dtype: FloatDtype, seed = 1): { values: Values; tensors: Tensors } {
  const random = seededNumbers(seed);
  const values: Values = new Map();
  const tensors: Tensors = {};
  for (const { name, shape } of llamaTensors(parseLlamaConfig(JSON.stringify(config), "config.json"))) {
    const drawn = random.normals(
      shape.reduce((product, size) => product * size, 1),
      0.05,
    );
    values.set(name, drawn);
    tensors[name] = storedTensor(dtype, shape, drawn);
  }
  return { values, tensors };
}

export type Tensors = Record<string, TestTensor>;

export function storedTensor(dtype: FloatDtype, shape: readonly number[], values: Float32Array): TestTensor {
  return { dtype, shape, data: new Uint8Array(encodeFloats(dtype, values)) };
}

/** A model folder of one file, open until the test ends. */
export async function openModel(
  tensors: Tensors,
  config: object = ODD_CONFIG,
  others: Record<string, Uint8Array | string> = {},
): Promise<ModelFolder> {
  return open(await modelFolder({ "model.safetensors": tensorFile(tensors), ...others }, config));
}

/** A model folder, open until the test ends. */
export async function open(folder: string): Promise<ModelFolder> {
  const model = await openModelFolder(folder);
  onTestFinished(() => model.close());
  return model;
}

/** An adapter of normal numbers, so that an element of B·A is about deviation² · √r. */
export function randomAdapter(config: LlamaConfig, settings = ALL_PROJECTIONS, deviation = 0.1, seed = 2): LoraAdapter {
  const random = seededNumbers(seed);
  const layers = Array.from({ length: config.layers }, () => {
    const pairs = settings.targetModules.map((projection) => {
      const { inFeatures, outFeatures } = projectionSize(config, projection);
      const a = random.normals(settings.r * inFeatures, deviation);
      return [projection, { a, b: random.normals(outFeatures * settings.r, deviation) }] as const;
    });
    return Object.fromEntries(pairs);
  });
  return { ...settings, layers };
}

/** s·B·A of a module, in float32. */
export function updateOf(adapter: LoraAdapter, config: LlamaConfig, layer: number, projection: Projection) {
  const { inFeatures: n, outFeatures: m } = projectionSize(config, projection);
  const factors = adapter.layers[layer]![projection]!;
  return loraUpdate({ ...factors, scale: loraScale(adapter) }, { m, n, r: adapter.r });
}

/** Calls `visit` for every adapted tensor. */
export function eachModule(
  adapter: LoraAdapter,
  visit: (name: string, layer: number, projection: Projection) => void,
): void {
  for (const layer of adapter.layers.keys()) {
    for (const projection of adapter.targetModules) visit(projectionName(layer, projection), layer, projection);
  }
}

/** Every tensor's bytes in a folder of safetensors files, by name. Shares no code with the project's reader. */
export async function readFolderTensors(folder: string): Promise<Map<string, TestTensor>> {
  const tensors = new Map<string, TestTensor>();
  for (const name of (await readdir(folder)).sort()) {
    if (!name.endsWith(".safetensors")) continue;
    const bytes = await readFile(join(folder, name));
    const dataBegin = 8 + Number(bytes.readBigUInt64LE());
    const header = JSON.parse(bytes.toString("utf8", 8, dataBegin)) as Record<string, HeaderEntry>;
    for (const [tensor, { dtype, shape, data_offsets: offsets }] of Object.entries(header)) {
      if (tensor === "__metadata__") continue;
      const [begin, end] = offsets;
      tensors.set(tensor, { dtype, shape, data: Uint8Array.from(bytes.subarray(dataBegin + begin, dataBegin + end)) });
    }
  }
  return tensors;
}

interface HeaderEntry {
  readonly dtype: string;
  readonly shape: number[];
  readonly data_offsets: [number, number];
}

/** How many elements of two tensors differ in their bits. */
export function countDifferent(actual: Uint8Array, expected: Uint8Array, elementBytes: number): number {
  if (actual.byteLength !== expected.byteLength) return Number.NaN;
  let different = 0;
  for (let at = 0; at < expected.byteLength; at += elementBytes) {
    for (let i = at; i < at + elementBytes; i++) {
      if (actual[i] === expected[i]) continue;
      different++;
      break;
    }
  }
  return different;
}
