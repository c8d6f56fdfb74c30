import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { type OpenedFile, openRegularFile, readExactly } from "./regular-file.ts";
import {
  DTYPE_BYTES,
  LENGTH_PREFIX_BYTES,
  parseSafetensorsHeader,
  readHeaderLength,
  refuseOtherWeightFormats,
  rowElements,
  type SafetensorsHeader,
  type TensorInfo,
} from "./safetensors-header.ts";

export const DEFAULT_CHUNK_BYTES = 16 * 2 ** 20;

/** A run of a tensor's elements. `bytes` is a view of a buffer that is used again: copy what outlives the iteration. */
export interface TensorPiece {
  readonly tensor: TensorInfo;
  /** Index of the piece's first element in the tensor, row-major. */
  readonly firstElement: number;
  readonly elements: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

export interface StreamOptions {
  /** Largest piece. Two buffers of this size are held at most, and nothing else of the data. */
  readonly chunkBytes?: number;
  /** Every piece but a tensor's last holds a multiple of this many elements. `wholeRows` is such a function; default 1. */
  readonly pieceElements?: (tensor: TensorInfo) => number;
}

/** For `pieceElements`: pieces of whole rows along the first dimension. */
export function wholeRows(tensor: TensorInfo): number {
  return rowElements(tensor.shape);
}

/**
 * Opens a safetensors file and checks its header against its size.
 * Throws InputError naming file, tensor, value and limit.
 */
export async function openSafetensorsFile(path: string): Promise<SafetensorsFile> {
  refuseOtherWeightFormats(path);
  const file = await openRegularFile(path);
  try {
    const prefix = new Uint8Array(Math.min(LENGTH_PREFIX_BYTES, file.sizeBytes));
    await readExactly(file.handle, path, prefix, 0);
    const headerBytes = new Uint8Array(readHeaderLength(prefix, file.sizeBytes, path));
    await readExactly(file.handle, path, headerBytes, LENGTH_PREFIX_BYTES);
    return new SafetensorsFile(path, file, parseSafetensorsHeader(headerBytes, file.sizeBytes, path));
  } catch (error) {
    await file.handle.close();
    throw error;
  }
}

/** Owns the handle of an open safetensors file, whose header was found to be sound. */
export class SafetensorsFile {
  readonly path: string;
  readonly header: SafetensorsHeader;
  readonly sizeBytes: number;
  readonly #handle: FileHandle;
  readonly #modifiedMs: number;
  #sha256Hex: string | undefined;

  constructor(path: string, { handle, sizeBytes, modifiedMs }: OpenedFile, header: SafetensorsHeader) {
    this.path = path;
    this.header = header;
    this.sizeBytes = sizeBytes;
    this.#handle = handle;
    this.#modifiedMs = modifiedMs;
  }

  /** SHA-256 of the whole file in hexadecimal, known once a stream has come to its end. */
  get sha256Hex(): string | undefined {
    return this.#sha256Hex;
  }

  /**
   * All tensors' data in the order of the file, in pieces of whole elements; the next piece is read while the caller
   * works on this one. Tensors without elements yield nothing. At the end `sha256Hex` is set.
   * Throws InputError when the file changes meanwhile, or when a tensor's `pieceElements` do not fit in a chunk.
   */
  async *stream(options: StreamOptions = {}): AsyncGenerator<TensorPiece, void, undefined> {
    const chunkBytes = options.chunkBytes ?? DEFAULT_CHUNK_BYTES;
    const plan = planPieces(this.path, this.header, chunkBytes, options.pieceElements ?? (() => 1));
    const largestBytes = plan.reduce((largest, { tensor, pieceBytes }) => {
      return Math.max(largest, Math.min(tensor.sizeBytes, pieceBytes));
    }, 0);
    const buffers = [new ArrayBuffer(largestBytes), new ArrayBuffer(largestBytes)];
    const hash = createHash("sha256").update(await this.#readHeaderBytes());

    let index = 0;
    let reading: Promise<TensorPiece> | undefined;
    for (const piece of pieces(plan)) {
      const next = this.#readPiece(piece, buffers[index++ % 2]!);
      // A failure is thrown where the piece is awaited; unhandled until then it would end the process.
      next.catch(() => {});
      const current = reading;
      reading = next;
      if (current !== undefined) yield await hashed(current);
    }
    if (reading !== undefined) yield await hashed(reading);
    await this.#checkUnchanged();
    this.#sha256Hex = hash.digest("hex");

    async function hashed(read: Promise<TensorPiece>): Promise<TensorPiece> {
      const piece = await read;
      hash.update(piece.bytes);
      return piece;
    }
  }

  /** The bytes of rows [begin, end) along a tensor's first dimension (a vector's elements), in new memory. */
  async readRows(name: string, begin: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const tensor = this.header.tensors.get(name);
    if (tensor === undefined) throw new RangeError(`internal: ${this.path} has no tensor "${printable(name)}"`);
    const rows = tensor.shape[0] ?? 1;
    if (!(begin >= 0 && begin <= end && end <= rows)) {
      throw new RangeError(`internal: rows [${begin}, ${end}) of "${printable(name)}", which has ${rows}`);
    }
    const rowBytes = rowElements(tensor.shape) * DTYPE_BYTES[tensor.dtype];
    const bytes = new Uint8Array((end - begin) * rowBytes);
    await readExactly(this.#handle, this.path, bytes, tensor.offsetBytes + begin * rowBytes);
    return bytes;
  }

  /** All of a tensor's bytes, in new memory. */
  async readTensor(name: string): Promise<Uint8Array<ArrayBuffer>> {
    return this.readRows(name, 0, this.header.tensors.get(name)?.shape[0] ?? 1);
  }

  /** Waits for a read that is under way, and closes the file. */
  async close(): Promise<void> {
    await this.#handle.close();
  }

  async #readPiece(piece: PlannedPiece, buffer: ArrayBuffer): Promise<TensorPiece> {
    const { tensor, firstElement, elements } = piece;
    const elementBytes = DTYPE_BYTES[tensor.dtype];
    const bytes = new Uint8Array(buffer, 0, elements * elementBytes);
    await readExactly(this.#handle, this.path, bytes, tensor.offsetBytes + firstElement * elementBytes);
    return { tensor, firstElement, elements, bytes };
  }

  async #readHeaderBytes(): Promise<Uint8Array> {
    const bytes = new Uint8Array(this.header.dataOffsetBytes);
    await readExactly(this.#handle, this.path, bytes, 0);
    return bytes;
  }

  async #checkUnchanged(): Promise<void> {
    const { size, mtimeMs } = await this.#handle.stat();
    if (size !== this.sizeBytes || mtimeMs !== this.#modifiedMs) {
      throw new InputError(`${printable(this.path)}: the file was changed while it was read; run again`);
    }
  }
}

interface PlannedTensor {
  readonly tensor: TensorInfo;
  readonly pieceBytes: number;
}

interface PlannedPiece {
  readonly tensor: TensorInfo;
  readonly firstElement: number;
  readonly elements: number;
}

function planPieces(
  path: string,
  header: SafetensorsHeader,
  chunkBytes: number,
  pieceElements: (tensor: TensorInfo) => number,
): PlannedTensor[] {
  const tensors = [...header.tensors.values()].filter((tensor) => tensor.elements > 0);
  return tensors.map((tensor) => {
    const unitBytes = pieceElements(tensor) * DTYPE_BYTES[tensor.dtype];
    if (Math.min(unitBytes, tensor.sizeBytes) > chunkBytes) {
      throw new InputError(
        `${printable(path)}: tensor "${printable(tensor.name)}": is read in units of ${unitBytes} bytes (for whole rows, ` +
          `one row), which must fit in a chunk of ${chunkBytes} bytes`,
      );
    }
    return { tensor, pieceBytes: Math.max(unitBytes, chunkBytes - (chunkBytes % unitBytes)) };
  });
}

function* pieces(plan: readonly PlannedTensor[]): Generator<PlannedPiece> {
  for (const { tensor, pieceBytes } of plan) {
    const step = pieceBytes / DTYPE_BYTES[tensor.dtype];
    for (let firstElement = 0; firstElement < tensor.elements; firstElement += step) {
      yield { tensor, firstElement, elements: Math.min(step, tensor.elements - firstElement) };
    }
  }
}
