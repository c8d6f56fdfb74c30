import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import {
  decodeUtf8,
  describeJson,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  jsonSize,
  parseStrictJsonObject,
} from "./strict-json.ts";

// The safetensors format: 8 bytes of little-endian header length, a JSON header, the tensors' bytes without holes.
// https://github.com/huggingface/safetensors#format

/** Bytes per element of each dtype that fills whole bytes. */
export const DTYPE_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  F8_E8M0: 1,
  F8_E5M2FNUZ: 1,
  F8_E4M3FNUZ: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
  C64: 8,
} as const;

export type Dtype = keyof typeof DTYPE_BYTES;

/** A tensor's name, type and shape: what a writer needs to know before the bytes. */
export interface TensorSpec {
  readonly name: string;
  readonly dtype: Dtype;
  /** Row-major; empty for a scalar. */
  readonly shape: readonly number[];
}

export interface TensorInfo extends TensorSpec {
  readonly elements: number;
  readonly sizeBytes: number;
  /** From the start of the file, not of the data. */
  readonly offsetBytes: number;
}

export interface SafetensorsHeader {
  /** By name, in the order in which the data lies in the file. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
  /** Where the tensors' bytes begin. */
  readonly dataOffsetBytes: number;
}

export const LENGTH_PREFIX_BYTES = 8;
/** Longest header, as in the reference reader. */
export const MAX_HEADER_BYTES = 100_000_000;
export const METADATA_KEY = "__metadata__";

/** Throws InputError, with the remedy, for the name of a weight file that is not safetensors. */
export function refuseOtherWeightFormats(fileName: string): void {
  const extension = /\.(bin|pt|pth|ckpt|pkl|gguf|h5|msgpack|npz|onnx)$/i.exec(fileName)?.[1];
  if (extension === undefined) return;
  throw new InputError(
    `${printable(fileName)}: weights must be in the safetensors format, found .${extension.toLowerCase()}; ` +
      "load the model with transformers and write it again with save_pretrained(folder, safe_serialization=True)",
  );
}

/** Elements of a row along the first dimension; 1 for vectors and scalars. */
export function rowElements(shape: readonly number[]): number {
  return shape.slice(1).reduce((product, size) => product * size, 1);
}

/**
 * The header's length in bytes, from the file's first 8 bytes (or all it has).
 * Throws InputError when there are fewer, or when a header of that length cannot be there.
 */
export function readHeaderLength(prefix: Uint8Array, fileSizeBytes: number, fileName: string): number {
  const place = printable(fileName);
  if (prefix.byteLength < LENGTH_PREFIX_BYTES) {
    throw new InputError(
      `${place}: a safetensors file has at least ${LENGTH_PREFIX_BYTES} bytes, found ${prefix.byteLength}; fetch the file again`,
    );
  }
  if (new TextDecoder("latin1").decode(prefix.subarray(0, LENGTH_PREFIX_BYTES)) === "version ") {
    throw new InputError(`${place}: this is a Git LFS pointer, not the file; run \`git lfs pull\` in its folder`);
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true);
  const requirement = (limit: string) =>
    new InputError(`${place}: the header's length must be ${limit}, found ${length} bytes; fetch the file again`);
  if (length === 0n) throw requirement("above 0");
  if (length > BigInt(MAX_HEADER_BYTES)) throw requirement(`at most ${MAX_HEADER_BYTES} bytes`);
  const available = fileSizeBytes - LENGTH_PREFIX_BYTES;
  if (length > BigInt(available)) throw requirement(`at most the ${available} bytes that the file has after it`);
  return Number(length);
}

/**
 * Parses and checks the JSON header of a safetensors file (the bytes after the length) against the file's real size.
 * Nothing is allocated for a tensor. Throws InputError naming file, tensor, value and limit.
 */
export function parseSafetensorsHeader(
  headerBytes: Uint8Array,
  fileSizeBytes: number,
  fileName: string,
): SafetensorsHeader {
  const place = printable(fileName);
  const headerPlace = `${fileName} (header)`;
  const root = parseStrictJsonObject(decodeUtf8(headerBytes, headerPlace), headerPlace);
  const dataOffsetBytes = LENGTH_PREFIX_BYTES + headerBytes.byteLength;
  let metadata: ReadonlyMap<string, string> = new Map();
  const tensors: TensorInfo[] = [];
  for (const [name, value] of root) {
    if (name === METADATA_KEY) metadata = parseMetadata(value, place);
    else tensors.push(parseTensor(name, value, dataOffsetBytes, place));
  }
  tensors.sort((a, b) => a.offsetBytes - b.offsetBytes || a.sizeBytes - b.sizeBytes);
  checkNoHoles(tensors, dataOffsetBytes, fileSizeBytes, place);
  return { tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])), metadata, dataOffsetBytes };
}

function parseMetadata(value: JsonValue, place: string): ReadonlyMap<string, string> {
  const metadata = new Map<string, string>();
  if (!isJsonObject(value)) {
    throw new InputError(`${place}: ${METADATA_KEY} must be a map of strings, found ${describeJson(value)}`);
  }
  for (const [key, text] of value) {
    if (typeof text !== "string") {
      throw new InputError(
        `${place}: ${METADATA_KEY} must be a map of strings, found ${describeJson(text)} at "${printable(key)}"`,
      );
    }
    metadata.set(key, text);
  }
  return metadata;
}

function parseTensor(name: string, value: JsonValue, dataOffsetBytes: number, place: string): TensorInfo {
  const where = `${place}: tensor "${printable(name)}"`;
  if (!isJsonObject(value)) throw new InputError(`${where}: must be an object, found ${describeJson(value)}`);
  const dtype = parseDtype(value, where);
  const shape = parseSizes(value, "shape", where);
  const [begin, end, ...rest] = parseSizes(value, "data_offsets", where);
  if (begin === undefined || end === undefined || rest.length > 0) {
    throw new InputError(
      `${where}: data_offsets must be two integers, found ${describeJson(value.get("data_offsets"))}`,
    );
  }
  if (begin > end) throw new InputError(`${where}: data_offsets must not run backwards, found [${begin}, ${end}]`);
  const elements = countElements(shape, DTYPE_BYTES[dtype], where);
  const sizeBytes = elements * DTYPE_BYTES[dtype];
  if (end - begin !== sizeBytes) {
    throw new InputError(
      `${where}: ${dtype} of shape ${describeJson(value.get("shape"))} takes ${sizeBytes} bytes, ` +
        `but data_offsets [${begin}, ${end}] hold ${end - begin}`,
    );
  }
  return { name, dtype, shape, elements, sizeBytes, offsetBytes: dataOffsetBytes + begin };
}

function parseDtype(tensor: JsonObject, where: string): Dtype {
  const dtype = tensor.get("dtype");
  if (typeof dtype === "string" && Object.hasOwn(DTYPE_BYTES, dtype)) return dtype as Dtype;
  throw new InputError(
    `${where}: dtype must be one of ${Object.keys(DTYPE_BYTES).join(", ")}, found ${describeJson(dtype)}`,
  );
}

function parseSizes(tensor: JsonObject, key: "shape" | "data_offsets", where: string): number[] {
  const list = tensor.get(key);
  if (!Array.isArray(list)) {
    throw new InputError(`${where}: ${key} must be a list of integers, found ${describeJson(list)}`);
  }
  return list.map((item) => {
    const size = jsonSize(item);
    if (size !== undefined) return size;
    throw new InputError(
      `${where}: ${key} must hold plain integers from 0 to ${Number.MAX_SAFE_INTEGER}, found ${describeJson(item)}`,
    );
  });
}

// Left to right, as the reference reader does: a product that overflows before a 0 is reached is refused too.
function countElements(shape: readonly number[], bytesPerElement: number, where: string): number {
  let elements = 1;
  for (const size of shape) {
    elements *= size;
    if (elements * bytesPerElement > Number.MAX_SAFE_INTEGER) {
      throw new InputError(
        `${where}: a tensor's size must be at most ${Number.MAX_SAFE_INTEGER} bytes, found the shape [${printable(shape.join(", "))}]`,
      );
    }
  }
  return elements;
}

/** `tensors` sorted by where they begin. */
function checkNoHoles(tensors: readonly TensorInfo[], dataOffsetBytes: number, fileSizeBytes: number, place: string) {
  let expectedBytes = dataOffsetBytes;
  let previous: TensorInfo | undefined;
  for (const tensor of tensors) {
    if (tensor.offsetBytes !== expectedBytes) {
      const kind = tensor.offsetBytes > expectedBytes ? "a hole" : "an overlap";
      const before = previous === undefined ? "the data begins" : `"${printable(previous.name)}" ends`;
      throw new InputError(
        `${place}: tensor "${printable(tensor.name)}": must begin at byte ${expectedBytes - dataOffsetBytes} of the data, ` +
          `where ${before}, found ${tensor.offsetBytes - dataOffsetBytes} (${kind})`,
      );
    }
    expectedBytes += tensor.sizeBytes;
    previous = tensor;
  }
  if (expectedBytes !== fileSizeBytes) {
    const kind = fileSizeBytes < expectedBytes ? "the file is cut short" : "bytes follow the last tensor";
    throw new InputError(
      `${place}: the header declares a file of ${expectedBytes} bytes, found ${fileSizeBytes} (${kind}); fetch the file again`,
    );
  }
}
