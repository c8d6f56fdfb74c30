import type { FileHandle } from "node:fs/promises";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { createFileHash, type FileHash } from "./file-hash.ts";
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

/** Pieces of a stream in memory: one at the caller, the others being read and hashed. */
const STREAM_BUFFERS = 4;

/** A run of a tensor's elements. `bytes` is a view of a buffer that is used again: copy what outlives the iteration. */
export interface TensorPiece {
  readonly tensor: TensorInfo;
  /** Index of the piece's first element in the tensor, row-major. */
  readonly firstElement: number;
  readonly elements: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

export interface StreamOptions {
  /** Largest piece. Four buffers of this size are held, and nothing else of the data. */
  readonly chunkBytes?: number;
  /** Every piece but a tensor's last holds a multiple of this many elements. `wholeRows` is such a function; default 1. */
  readonly pieceElements?: (tensor: TensorInfo) => number;
  /** False: without the hash of the whole, which a file that carries its own checksums can do without. Default true. */
  readonly sha256?: boolean;
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
  /** When it was opened: the times of the last change of its content, and of anything about it. */
  readonly modifiedMs: number;
  readonly changedMs: number;
  readonly #handle: FileHandle;
  #sha256Hex: string | undefined;

  constructor(path: string, { handle, sizeBytes, modifiedMs, changedMs }: OpenedFile, header: SafetensorsHeader) {
    this.path = path;
    this.header = header;
    this.sizeBytes = sizeBytes;
    this.#handle = handle;
    this.modifiedMs = modifiedMs;
    this.changedMs = changedMs;
  }

  /** SHA-256 of the whole file in hexadecimal, known once a stream has come to its end. */
  get sha256Hex(): string | undefined {
    return this.#sha256Hex;
  }

  /**
   * All tensors' data in the order of the file, in pieces of whole elements; while the caller works on one, the next are
   * read and hashed. Tensors without elements yield nothing. At the end `sha256Hex` is set.
   * Throws InputError when the file changes meanwhile, or when a tensor's `pieceElements` do not fit in a chunk.
   */
  async *stream(options: StreamOptions = {}): AsyncGenerator<TensorPiece, void, undefined> {
    const chunkBytes = options.chunkBytes ?? DEFAULT_CHUNK_BYTES;
    const plan = planPieces(this.path, this.header, chunkBytes, options.pieceElements ?? (() => 1));
    const largestBytes = plan.reduce((largest, { tensor, pieceBytes }) => {
      return Math.max(largest, Math.min(tensor.sizeBytes, pieceBytes));
    }, 0);
    const hash = options.sha256 === false ? null : createFileHash(this.sizeBytes);
    try {
      await hash?.update(await this.#readHeaderBytes());
      const ahead: Promise<TensorPiece>[] = [];
      let free: ArrayBuffer[] = Array.from({ length: STREAM_BUFFERS }, () => new ArrayBuffer(largestBytes));
      for (const piece of pieces(plan)) {
        if (free.length === 0) {
          const current = await ahead.shift()!;
          yield current;
          free = [current.bytes.buffer];
        }
        const next = this.#readAndHash(piece, free.pop()!, hash, ahead.at(-1));
        // A failure is thrown where the piece is awaited; unhandled until then it would end the process.
        next.catch(() => {});
        ahead.push(next);
      }
      for (const piece of ahead) yield await piece;
      await this.#checkUnchanged();
      this.#sha256Hex = await hash?.digest();
    } finally {
      await hash?.close();
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

  /** Reads at once, and hashes when the piece before has been. */
  async #readAndHash(
    piece: PlannedPiece,
    buffer: ArrayBuffer,
    hash: FileHash | null,
    before: Promise<unknown> | undefined,
  ): Promise<TensorPiece> {
    const read = await this.#readPiece(piece, buffer);
    if (hash === null) return read;
    await before;
    return { ...read, bytes: await hash.update(read.bytes) };
  }

  async #readPiece(piece: PlannedPiece, buffer: ArrayBuffer): Promise<TensorPiece> {
    const { tensor, firstElement, elements } = piece;
    const elementBytes = DTYPE_BYTES[tensor.dtype];
    const bytes = new Uint8Array(buffer, 0, elements * elementBytes);
    await readExactly(this.#handle, this.path, bytes, tensor.offsetBytes + firstElement * elementBytes);
    return { tensor, firstElement, elements, bytes };
  }

  async #readHeaderBytes(): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(this.header.dataOffsetBytes);
    await readExactly(this.#handle, this.path, bytes, 0);
    return bytes;
  }

  async #checkUnchanged(): Promise<void> {
    const { size, mtimeMs } = await this.#handle.stat();
    if (size !== this.sizeBytes || mtimeMs !== this.modifiedMs) {
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
