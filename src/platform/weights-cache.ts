import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, realpath, rm, stat, statfs } from "node:fs/promises";
import path from "node:path";
import { crc32 } from "node:zlib";
import { InputError } from "../errors.ts";
import type { GpuBuffer } from "../gpu/buffer.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { UploadWindow } from "../model/upload-window.ts";
import { formatSize, printable } from "../text.ts";
import { TEMPORARY_SUFFIX } from "../weights/atomic-file.ts";
import { makeFolder } from "../weights/make-folder.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import { fileError } from "../weights/regular-file.ts";
import { openSafetensorsFile, type SafetensorsFile } from "../weights/safetensors-file.ts";
import type { TensorSpec } from "../weights/safetensors-header.ts";
import { SafetensorsWriter } from "../weights/safetensors-writer.ts";

// A model's GPU buffers, byte for byte, in one safetensors file per model folder and format:
//   facts      what they were made of, and what a run must know of that: JSON
//   BUFFER     the bytes of each buffer, under its label
//   checksums  CRC-32 of the facts and of each piece of each buffer, in this order, as little-endian u32
// CRC-32 finds every flipped bit or two in a piece, and all but one in 2^32 of other damages, at several times the speed of
// SHA-256. It is no defence against forgery: who can write into the cache can do so to the program.

/** Raise it when the same files give other bytes, or the file is laid out in another way. */
const VERSION = 1;

const PIECE_BYTES = 8 * 2 ** 20;
/** What a process that was killed left behind is removed when nobody has written to it for so long. */
const STALE_MS = 60 * 60 * 1000;

export interface WeightsCache {
  readonly folder: string;
  /** Told in one line why what is kept is of no use, or that nothing can be kept. The run goes on. */
  readonly onNotice: (line: string) => void;
  /** While a file is written. May throw, which ends it. */
  readonly onKeeping?: (doneBytes: number, totalBytes: number) => void;
}

/** A model on the GPU. */
export interface ModelBuffers {
  readonly gpu: Gpu;
  readonly folder: ModelFolder;
  /** What decides, besides the files, what the buffers hold. */
  readonly format: string;
  /** All that hold its weights, each with a label of its own. */
  readonly buffers: readonly GpuBuffer[];
}

/** What a run must know of files that it does not read. */
export interface SourceFacts {
  /** SHA-256 of each weight file by its name. */
  readonly sha256: Readonly<Record<string, string>>;
  /** Elements that were rounded. */
  readonly rounded: number;
}

/**
 * Fills the buffers with what an earlier run has kept. Returns null where there is nothing, or nothing that can be used:
 * the buffers may then hold a part of it, and are to be filled anew. Nothing reaches the GPU before its checksum is right.
 */
export async function loadKeptWeights(
  { folder, onNotice }: WeightsCache,
  model: ModelBuffers,
  onProgress: (doneBytes: number, totalBytes: number) => void,
): Promise<SourceFacts | null> {
  const file = await cachePath(folder, model);
  if (!existsSync(file)) return null;
  try {
    const opened = await openSafetensorsFile(file);
    try {
      return await upload(opened, model, onProgress);
    } finally {
      await opened.close();
    }
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    onNotice(`note: the kept weights cannot be used, so the model's files are read: ${error.message}`);
    return null;
  }
}

/** Keeps the buffers' bytes for later runs. Where the file system refuses, that is told and nothing else happens. */
export async function keepWeights(cache: WeightsCache, model: ModelBuffers, source: SourceFacts): Promise<void> {
  try {
    const file = await cachePath(cache.folder, model);
    const startMs = performance.now();
    const sizeBytes = await write(cache, file, model, source);
    const seconds = (performance.now() - startMs) / 1000;
    cache.onNotice(
      `kept the converted weights for the next run: ${formatSize(sizeBytes)} in ${seconds.toFixed(1)} s, ${printable(file, 1000)}`,
    );
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    cache.onNotice(`note: the converted weights could not be kept: ${error.message}`);
  }
}

/** One file per folder and format, so that a changed model takes the place of what it was before. */
async function cachePath(folder: string, { folder: model, format }: ModelBuffers): Promise<string> {
  const key = JSON.stringify([await realpath(model.path), format]);
  return path.join(folder, `${createHash("sha256").update(key).digest("hex")}.safetensors`);
}

/** What the buffers are made of. Files that have been touched in any way count as others. */
function identityOf({ folder, format }: ModelBuffers): unknown {
  const files = folder.files.map(({ path: file, sizeBytes, modifiedMs, changedMs }) => {
    return { name: path.basename(file), sizeBytes, modifiedMs, changedMs };
  });
  return { version: VERSION, format, files };
}

/** The file's tensors, for facts of so many bytes. */
function tensorsOf(factsBytes: number, buffers: readonly GpuBuffer[]): readonly TensorSpec[] {
  const pieces = buffers.reduce((sum, { sizeBytes }) => sum + Math.ceil(sizeBytes / PIECE_BYTES), 1);
  return [
    { name: "facts", dtype: "U8", shape: [factsBytes] },
    ...buffers.map(({ label, sizeBytes }): TensorSpec => ({ name: label, dtype: "U8", shape: [sizeBytes] })),
    { name: "checksums", dtype: "U8", shape: [4 * pieces] },
  ];
}

async function upload(
  file: SafetensorsFile,
  { gpu, ...model }: ModelBuffers,
  onProgress: (doneBytes: number, totalBytes: number) => void,
): Promise<SourceFacts> {
  const { facts, checksums } = await readFacts(file, { gpu, ...model });
  const bufferOf = new Map(model.buffers.map((buffer) => [buffer.label, buffer]));
  const totalBytes = model.buffers.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const window = new UploadWindow(gpu);
  let [piece, doneBytes] = [1, 0];
  for await (const { tensor, firstElement, bytes } of file.stream({ chunkBytes: PIECE_BYTES, sha256: false })) {
    const buffer = bufferOf.get(tensor.name);
    if (!buffer) continue;
    if (crc32(bytes) !== checksums.getUint32(4 * piece++, true)) throw damage(file, tensor.name);
    window.write(buffer, firstElement, bytes);
    await window.wrote();
    doneBytes += bytes.byteLength;
    onProgress(doneBytes, totalBytes);
  }
  await window.drain();
  return facts;
}

/** Checks that the file is of this model, and reads what stands beside the buffers. */
async function readFacts(
  file: SafetensorsFile,
  model: ModelBuffers,
): Promise<{ facts: SourceFacts; checksums: DataView }> {
  const found = [...file.header.tensors.values()];
  const expected = tensorsOf(found[0]?.sizeBytes ?? 0, model.buffers);
  const describe = (tensors: readonly TensorSpec[]) =>
    JSON.stringify(tensors.map(({ name, dtype, shape }) => [name, dtype, shape]));
  if (describe(found) !== describe(expected)) throw ofOtherFiles(file);
  const bytes = await file.readTensor("facts");
  const checksums = new DataView((await file.readTensor("checksums")).buffer);
  if (crc32(bytes) !== checksums.getUint32(0, true)) throw damage(file, "facts");
  const { identity, sha256, rounded } = JSON.parse(new TextDecoder().decode(bytes)) as SourceFacts & {
    identity: unknown;
  };
  if (JSON.stringify(identity) !== JSON.stringify(identityOf(model))) throw ofOtherFiles(file);
  return { facts: { sha256, rounded }, checksums };
}

function ofOtherFiles(file: SafetensorsFile): InputError {
  return new InputError(`${printable(file.path, 1000)}: was made of other files, or for another device or version`);
}

function damage(file: SafetensorsFile, name: string): InputError {
  return new InputError(`${printable(file.path, 1000)}: "${printable(name)}" is not as it was written (CRC-32)`);
}

/** Writes the file, or nothing. Returns its size. */
async function write(cache: WeightsCache, file: string, model: ModelBuffers, source: SourceFacts): Promise<number> {
  const { gpu, buffers } = model;
  const facts = new TextEncoder().encode(JSON.stringify({ identity: identityOf(model), ...source }));
  const tensors = tensorsOf(facts.byteLength, buffers);
  const totalBytes = buffers.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const checksums = new DataView(new ArrayBuffer(tensors.at(-1)!.shape[0]!));
  let [piece, doneBytes] = [0, 0];
  await makeFolder(cache.folder);
  await removeStale(cache.folder);
  await requireSpace(file, totalBytes);
  const writer = await SafetensorsWriter.create(file, tensors);
  const append = async (name: string, bytes: Uint8Array): Promise<void> => {
    checksums.setUint32(4 * piece++, crc32(bytes), true);
    await writer.append(name, bytes);
  };
  try {
    await append("facts", facts);
    for await (const { label, bytes } of readBack(gpu, buffers)) {
      await append(label, bytes);
      doneBytes += bytes.byteLength;
      cache.onKeeping?.(doneBytes, totalBytes);
    }
    await writer.append("checksums", new Uint8Array(checksums.buffer));
    const { sizeBytes } = await writer.seal();
    await writer.publish();
    return sizeBytes;
  } catch (error) {
    await writer.discard();
    throw error;
  }
}

/** The buffers' bytes in pieces; the next is on its way while the caller works on one. */
async function* readBack(
  gpu: Gpu,
  buffers: readonly GpuBuffer[],
): AsyncGenerator<{ label: string; bytes: Uint8Array }, void, undefined> {
  let ahead: { label: string; copied: Promise<ArrayBuffer[]> } | undefined;
  for (const buffer of buffers) {
    for (let offsetBytes = 0; offsetBytes < buffer.sizeBytes; offsetBytes += PIECE_BYTES) {
      const sizeBytes = Math.min(PIECE_BYTES, buffer.sizeBytes - offsetBytes);
      const copied = gpu.read({ buffer, offsetBytes, sizeBytes });
      copied.catch(() => {}); // Thrown where it is awaited.
      const current = ahead;
      ahead = { label: buffer.label, copied };
      if (current) yield { label: current.label, bytes: new Uint8Array((await current.copied)[0]!) };
    }
  }
  if (ahead) yield { label: ahead.label, bytes: new Uint8Array((await ahead.copied)[0]!) };
}

/** A disk that is filled to the brim would stop more than this. */
async function requireSpace(file: string, sizeBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(path.dirname(file));
  if (bavail * bsize >= sizeBytes) return;
  throw new InputError(
    `${printable(file, 1000)}: takes ${formatSize(sizeBytes)}, but the disk has ${formatSize(bavail * bsize)} left`,
  );
}

async function removeStale(folder: string): Promise<void> {
  try {
    for (const name of await readdir(folder)) {
      if (!name.endsWith(TEMPORARY_SUFFIX)) continue;
      const file = path.join(folder, name);
      if (Date.now() - (await stat(file)).mtimeMs > STALE_MS) await rm(file, { force: true });
    }
  } catch (error) {
    throw fileError(folder, "tidy", error);
  }
}
