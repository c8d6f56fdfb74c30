import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { InputError, NonFiniteError } from "../errors.ts";
import { printable } from "../text.ts";
import { writeFileAtomically } from "./atomic-file.ts";
import { areFinite } from "./finite.ts";
import { findInFolder, requireFolder } from "./folder-files.ts";
import { decodeFloats, encodeFloats } from "./half.ts";
import type { LlamaConfig } from "./llama-config.ts";
import { formatPeftConfig, type LoraSettings, parsePeftConfig } from "./peft-config.ts";
import { listNames, throwProblems } from "./problems.ts";
import { type Projection, projectionModule, projectionSize } from "./projections.ts";
import { fileError, readTextFile } from "./regular-file.ts";
import { openSafetensorsFile, type SafetensorsFile } from "./safetensors-file.ts";
import { refuseOtherWeightFormats } from "./safetensors-header.ts";
import { SafetensorsWriter } from "./safetensors-writer.ts";
import { describeWrongDtypes, describeWrongShapes, floatDtype } from "./tensor-checks.ts";

export const ADAPTER_CONFIG_FILE = "adapter_config.json";
export const ADAPTER_WEIGHTS_FILE = "adapter_model.safetensors";

const MAX_CONFIG_BYTES = 2 ** 20;

/** The two factors of a module's update, row-major float32. */
export interface LoraPair {
  /** (r, inFeatures) */
  readonly a: Float32Array<ArrayBuffer>;
  /** (outFeatures, r) */
  readonly b: Float32Array<ArrayBuffer>;
}

export interface LoraAdapter extends LoraSettings {
  /** One entry per layer of the model; each has exactly the target modules. */
  readonly layers: readonly Readonly<Partial<Record<Projection, LoraPair>>>[];
}

export interface StoredAdapter extends LoraAdapter {
  /** SHA-256 of the weight file. */
  readonly sha256Hex: string;
}

/** A tensor of an adapter's file, and where its values are kept. */
interface AdapterTensor {
  readonly name: string;
  readonly shape: readonly [number, number];
  readonly layer: number;
  readonly projection: Projection;
  readonly factor: "a" | "b";
}

/**
 * Reads a PEFT LoRA adapter for the model of `config`: exactly its target modules in every layer, stored in F32, F16 or
 * BF16, widened to float32. Throws InputError naming each setting, tensor or value that does not fit.
 */
export async function readPeftAdapter(folder: string, config: LlamaConfig): Promise<StoredAdapter> {
  await requireFolder(folder, "a PEFT adapter folder");
  const configPath = await requireFile(folder, ADAPTER_CONFIG_FILE);
  const settings = parsePeftConfig(await readTextFile(configPath, MAX_CONFIG_BYTES), configPath);
  const file = await openSafetensorsFile(await requireFile(folder, ADAPTER_WEIGHTS_FILE));
  try {
    const tensors = adapterTensors(settings, config);
    checkTensors(file, tensors);
    const values = await readValues(file, tensors);
    const layers = Array.from({ length: config.layers }, (_, layer) => {
      const pairs = settings.targetModules.map((projection) => {
        const a = values.get(tensorName(layer, projection, "A"))!;
        const b = values.get(tensorName(layer, projection, "B"))!;
        return [projection, { a, b }] as const;
      });
      return Object.fromEntries(pairs);
    });
    return { ...settings, layers, sha256Hex: file.sha256Hex! };
  } finally {
    await file.close();
  }
}

/**
 * Writes an adapter as PEFT does, in float32: `adapter_config.json` and `adapter_model.safetensors`. The folder is made
 * where there is none. `baseModel` is the id or path that PEFT users load the base from. Returns the weight file's
 * SHA-256. Throws NonFiniteError for a value that is not finite, InputError where the file system refuses.
 */
export async function writePeftAdapter(
  folder: string,
  adapter: LoraAdapter,
  config: LlamaConfig,
  baseModel: string,
): Promise<string> {
  const tensors = adapterTensors(adapter, config);
  const valuesOf = ({ layer, projection, factor }: AdapterTensor) => adapter.layers[layer]![projection]![factor];
  for (const tensor of tensors) {
    const nonFinite = describeNonFinite(valuesOf(tensor));
    if (nonFinite !== undefined) {
      throw new NonFiniteError(`${tensor.name}: must be finite to be saved, found ${nonFinite}`);
    }
  }
  try {
    await mkdir(folder, { recursive: true });
  } catch (cause) {
    throw fileError(folder, "create", cause);
  }
  const writer = await SafetensorsWriter.create(
    join(folder, ADAPTER_WEIGHTS_FILE),
    tensors.map(({ name, shape }) => ({ name, shape, dtype: "F32" })),
  );
  try {
    for (const tensor of tensors) await writer.append(tensor.name, encodeFloats("F32", valuesOf(tensor)));
    const { sha256Hex } = await writer.seal();
    await writer.publish();
    await writeFileAtomically(join(folder, ADAPTER_CONFIG_FILE), formatPeftConfig(adapter, baseModel));
    return sha256Hex;
  } catch (error) {
    await writer.discard();
    throw error;
  }
}

function tensorName(layer: number, projection: Projection, factor: "A" | "B"): string {
  return `base_model.model.model.layers.${layer}.${projectionModule(projection)}.${projection}.lora_${factor}.weight`;
}

/** The tensors of an adapter in the order of its file: by name, as safetensors sorts them. */
function adapterTensors(settings: LoraSettings, config: LlamaConfig): AdapterTensor[] {
  const tensors: AdapterTensor[] = [];
  for (let layer = 0; layer < config.layers; layer++) {
    for (const projection of settings.targetModules) {
      const { inFeatures, outFeatures } = projectionSize(config, projection);
      const [a, b] = [tensorName(layer, projection, "A"), tensorName(layer, projection, "B")];
      tensors.push(
        { name: a, shape: [settings.r, inFeatures], layer, projection, factor: "a" },
        { name: b, shape: [outFeatures, settings.r], layer, projection, factor: "b" },
      );
    }
  }
  return tensors.sort((x, y) => (x.name < y.name ? -1 : 1));
}

async function requireFile(folder: string, name: string): Promise<string> {
  const path = await findInFolder(folder, name);
  if (path !== undefined) return path;
  for (const other of await readdir(folder)) {
    if (other.startsWith("adapter_model.")) refuseOtherWeightFormats(join(folder, other));
  }
  throw new InputError(`${printable(folder)}: must be a PEFT adapter folder with ${name}, found none`);
}

function checkTensors(file: SafetensorsFile, tensors: readonly AdapterTensor[]): void {
  const stored = file.header.tensors;
  const required = new Map(tensors.map(({ name, shape }) => [name, shape]));
  const missing = [...required.keys()].filter((name) => !stored.has(name));
  const extra = [...stored.keys()].filter((name) => !required.has(name));
  const wrongShapes = describeWrongShapes(required, stored);
  const wrongDtypes = describeWrongDtypes(required.keys(), stored);

  const problems: string[] = [];
  if (missing.length > 0) problems.push(`must hold A and B of every target module, missing ${listNames(missing)}`);
  if (extra.length > 0) problems.push(`must hold nothing but A and B of the target modules, found ${listNames(extra)}`);
  if (wrongShapes !== undefined) problems.push(`must have the shapes that r and the model require: ${wrongShapes}`);
  if (wrongDtypes !== undefined) problems.push(wrongDtypes);
  throwProblems(file.path, problems);
}

/** Every tensor's values by name. */
async function readValues(
  file: SafetensorsFile,
  tensors: readonly AdapterTensor[],
): Promise<ReadonlyMap<string, Float32Array<ArrayBuffer>>> {
  const values = new Map<string, Float32Array<ArrayBuffer>>();
  for (const { name, shape } of tensors) values.set(name, new Float32Array(shape[0] * shape[1]));
  for await (const { tensor, firstElement, elements, bytes } of file.stream()) {
    const target = values.get(tensor.name)!.subarray(firstElement, firstElement + elements);
    decodeFloats(floatDtype(tensor), bytes, target);
  }
  for (const [name, tensorValues] of values) {
    const nonFinite = describeNonFinite(tensorValues);
    if (nonFinite !== undefined) {
      throw new InputError(`${printable(file.path)}: "${name}" must hold finite values, found ${nonFinite}`);
    }
  }
  return values;
}

/** How many values are not finite, and the first of them; undefined when all are. */
function describeNonFinite(values: Float32Array): string | undefined {
  if (areFinite(values)) return undefined;
  const first = values.findIndex((value) => !Number.isFinite(value));
  const count = values.reduce((sum, value) => sum + (Number.isFinite(value) ? 0 : 1), 0);
  return `${values[first]} at element ${first} (${count} such values)`;
}
