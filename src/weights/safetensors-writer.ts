import { printable } from "../text.ts";
import { AtomicFile } from "./atomic-file.ts";
import {
  DTYPE_BYTES,
  LENGTH_PREFIX_BYTES,
  MAX_HEADER_BYTES,
  METADATA_KEY,
  type TensorSpec,
} from "./safetensors-header.ts";

export function tensorSizeBytes({ dtype, shape }: TensorSpec): number {
  return shape.reduce((product, size) => product * size, DTYPE_BYTES[dtype]);
}

/**
 * The first bytes of a safetensors file: the header's length and the header, padded with spaces so that the data begins
 * at a multiple of 8. Tensors lie in the order given, without holes. Throws when a name is repeated or reserved.
 */
export function encodeSafetensorsHeader(
  tensors: readonly TensorSpec[],
  metadata: Readonly<Record<string, string>> = { format: "pt" },
): Uint8Array {
  const names = new Set([METADATA_KEY]);
  const entries = [`"${METADATA_KEY}":${JSON.stringify(metadata)}`];
  let offsetBytes = 0;
  for (const tensor of tensors) {
    if (names.has(tensor.name)) throw new Error(`internal: tensor name "${printable(tensor.name)}" is taken`);
    names.add(tensor.name);
    const endBytes = offsetBytes + tensorSizeBytes(tensor);
    if (!Number.isSafeInteger(endBytes)) throw new Error(`internal: tensor "${printable(tensor.name)}" is too large`);
    const { dtype, shape } = tensor;
    entries.push(
      `${JSON.stringify(tensor.name)}:${JSON.stringify({ dtype, shape, data_offsets: [offsetBytes, endBytes] })}`,
    );
    offsetBytes = endBytes;
  }
  const json = new TextEncoder().encode(`{${entries.join(",")}}`);
  const headerBytes = Math.ceil(json.byteLength / 8) * 8;
  if (headerBytes > MAX_HEADER_BYTES) throw new Error(`internal: a header of ${headerBytes} bytes is too long`);
  const bytes = new Uint8Array(LENGTH_PREFIX_BYTES + headerBytes).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerBytes), true);
  bytes.set(json, LENGTH_PREFIX_BYTES);
  return bytes;
}

export interface WrittenFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly sha256Hex: string;
}

/**
 * Owns a safetensors file that is being written, tensor by tensor in the order given, in pieces of any size. It appears
 * under its name when it is published. After any failure call `discard`.
 */
export class SafetensorsWriter {
  readonly #file: AtomicFile;
  readonly #tensors: readonly TensorSpec[];
  /** Index of the tensor that comes next, and how many of its bytes are written. */
  #index = 0;
  #doneBytes = 0;
  #sizeBytes = 0;

  /** Creates the file and writes its header. Throws InputError where the file system refuses. */
  static async create(path: string, tensors: readonly TensorSpec[]): Promise<SafetensorsWriter> {
    const header = encodeSafetensorsHeader(tensors);
    const file = await AtomicFile.create(path);
    const writer = new SafetensorsWriter(file, tensors);
    try {
      await writer.#write(header);
    } catch (error) {
      await file.discard();
      throw error;
    }
    return writer;
  }

  private constructor(file: AtomicFile, tensors: readonly TensorSpec[]) {
    this.#file = file;
    this.#tensors = tensors;
    this.#skipComplete();
  }

  /** Appends bytes of the tensor `name`, which must be the next one that is not complete. */
  async append(name: string, bytes: Uint8Array): Promise<void> {
    if (bytes.byteLength === 0) return;
    const tensor = this.#tensors[this.#index];
    if (tensor?.name !== name) {
      throw new Error(
        `internal: ${this.#file.path}: expected bytes of ${tensor === undefined ? "no tensor" : `"${tensor.name}"`}, got some of "${name}"`,
      );
    }
    const doneBytes = this.#doneBytes + bytes.byteLength;
    const sizeBytes = tensorSizeBytes(tensor);
    if (doneBytes > sizeBytes) {
      throw new Error(`internal: ${this.#file.path}: "${name}" has ${sizeBytes} bytes, got ${doneBytes}`);
    }
    await this.#write(bytes);
    this.#doneBytes = doneBytes;
    this.#skipComplete();
  }

  /** Makes the complete file durable, still under its temporary name. Throws when a tensor has too few bytes. */
  async seal(): Promise<WrittenFile> {
    const tensor = this.#tensors[this.#index];
    if (tensor !== undefined) {
      throw new Error(
        `internal: ${this.#file.path}: "${tensor.name}" has ${tensorSizeBytes(tensor)} bytes, got ${this.#doneBytes}`,
      );
    }
    const sha256Hex = await this.#file.seal();
    return { path: this.#file.path, sizeBytes: this.#sizeBytes, sha256Hex };
  }

  /** Gives the sealed file its name. */
  async publish(): Promise<void> {
    await this.#file.publish();
  }

  async discard(): Promise<void> {
    await this.#file.discard();
  }

  async #write(bytes: Uint8Array): Promise<void> {
    await this.#file.write(bytes);
    this.#sizeBytes += bytes.byteLength;
  }

  #skipComplete(): void {
    while (this.#index < this.#tensors.length && this.#doneBytes === tensorSizeBytes(this.#tensors[this.#index]!)) {
      this.#index++;
      this.#doneBytes = 0;
    }
  }
}
