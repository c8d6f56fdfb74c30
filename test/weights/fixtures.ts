import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished } from "vitest";
import { InputError } from "../../src/errors.ts";
import { parseLlamaConfig } from "../../src/weights/llama-config.ts";
import { llamaTensors } from "../../src/weights/llama-tensors.ts";

/** A folder that is removed when the test ends. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "dpo-train-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A safetensors file of this header text and data, by the format's own description and none of our code. */
export function safetensorsBytes(header: string | Uint8Array, data: Uint8Array | number = 0): Uint8Array {
  const headerBytes = typeof header === "string" ? Buffer.from(header, "utf8") : header;
  const dataBytes = typeof data === "number" ? patternBytes(data) : data;
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(headerBytes.byteLength));
  return Buffer.concat([length, headerBytes, dataBytes]);
}

/** Bytes that differ from their neighbours, the same on every call. */
export function patternBytes(count: number): Uint8Array {
  return Uint8Array.from({ length: count }, (_, i) => (i * 37 + (i >> 8) * 11 + 5) & 0xff);
}

export interface TestTensor {
  dtype: string;
  shape: readonly number[];
  data: Uint8Array;
}

/** A safetensors file of these tensors, in their order. */
export function tensorFile(tensors: Record<string, TestTensor>): Uint8Array {
  let offset = 0;
  const header: Record<string, unknown> = {};
  for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  return safetensorsBytes(JSON.stringify(header), Buffer.concat(Object.values(tensors).map(({ data }) => data)));
}

export const TINY_CONFIG = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  vocab_size: 10,
  hidden_size: 8,
  intermediate_size: 6,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
};

/** The tensors of a tiny model in BF16, by name, in the order of the model. */
export function tinyTensors(config: object = TINY_CONFIG): Record<string, TestTensor> {
  const llama = parseLlamaConfig(JSON.stringify(config), "config.json");
  const tensors: Record<string, TestTensor> = {};
  for (const { name, shape } of llamaTensors(llama)) {
    const elements = shape.reduce((product, size) => product * size, 1);
    tensors[name] = { dtype: "BF16", shape, data: patternBytes(2 * elements) };
  }
  return tensors;
}

/** A model folder with these files beside config.json. */
export async function modelFolder(
  files: Record<string, Uint8Array | string>,
  config: object = TINY_CONFIG,
): Promise<string> {
  const folder = await temporaryFolder();
  for (const [name, content] of Object.entries({ "config.json": JSON.stringify(config), ...files })) {
    await writeFile(join(folder, name), content);
  }
  return folder;
}

/** The message of the InputError that `action` throws. Fails for any other outcome. */
export async function inputErrorOf(action: () => unknown): Promise<string> {
  let error: unknown;
  try {
    await action();
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(InputError);
  return (error as InputError).message;
}
