/** A snapshot in the cache, and the files that are put into it. */
import { mkdir, statfs } from "node:fs/promises";
import { join } from "node:path";
import { getRepoFolderName, type RepoId } from "@huggingface/hub";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { fileSizeBytes, linkIntoSnapshot, repositoryFolder, snapshotFolder } from "./cache.ts";
import type { RepositoryConnection } from "./http.ts";
import { withLock } from "./lock.ts";
import { downloadBlob, partialPath, type RemoteFile } from "./transfer.ts";

export interface DownloadProgress {
  /** The file that just grew. */
  file: string;
  fileDoneBytes: number;
  fileTotalBytes: number;
  /** Of all files that are wanted, those in the cache before included. */
  doneBytes: number;
  totalBytes: number;
}

/** Where the Hub's cache is, and what it may use. */
export interface HubCache {
  folder: string;
  symlinks: boolean;
}

/** Where a snapshot is built. */
export interface Destination {
  repositoryPath: string;
  snapshotPath: string;
  symlinks: boolean;
}

/** A content delivery network limits each connection; more than a few gain nothing. */
const PARALLEL_FILES = 4;

/**
 * Builds a snapshot while no other process downloads the same repository.
 *
 * @throws InputError when the cache is full or cannot be written; whatever `work` throws
 */
export async function buildSnapshot<T>(
  connection: RepositoryConnection,
  repo: RepoId,
  commit: string,
  cache: HubCache,
  work: (destination: Destination) => Promise<T>,
): Promise<T> {
  const repositoryPath = repositoryFolder(cache.folder, repo);
  const destination = {
    repositoryPath,
    snapshotPath: snapshotFolder(repositoryPath, commit),
    symlinks: cache.symlinks,
  };
  const lockPath = join(cache.folder, ".locks", getRepoFolderName(repo), "dpo-train.lock");
  const onWait = () => connection.onNotice(`${connection.subject}: waiting for another process that downloads it`);
  try {
    return await withLock(lockPath, onWait, () => work(destination), connection.signal);
  } catch (error) {
    throw asCacheError(error, connection, cache.folder);
  }
}

/** Downloads several files at once. When one fails, the others stop where they are, to be resumed. */
export async function placeAll(
  connection: RepositoryConnection,
  files: readonly RemoteFile[],
  destination: Destination,
  report: (file: RemoteFile, doneBytes: number) => void,
): Promise<void> {
  const stop = new AbortController();
  const signal = connection.signal ? AbortSignal.any([connection.signal, stop.signal]) : stop.signal;
  const queue = groupByHash(files).values();
  const lane = async () => {
    for (const equals of queue) {
      for (const file of equals) {
        await placeFile({ ...connection, signal }, file, destination, (doneBytes) => report(file, doneBytes));
      }
    }
  };
  const lanes = Array.from({ length: PARALLEL_FILES }, lane);
  try {
    await Promise.all(lanes);
  } catch (error) {
    stop.abort();
    await Promise.allSettled(lanes);
    throw error;
  }
}

/** Files of equal content share a blob, which only one download may write. */
function groupByHash(files: readonly RemoteFile[]): Map<string, RemoteFile[]> {
  const groups = new Map<string, RemoteFile[]>();
  for (const file of files) groups.set(file.hash, [...(groups.get(file.hash) ?? []), file]);
  return groups;
}

/** Makes one file appear in the snapshot, downloading its blob where the cache does not hold it. */
export async function placeFile(
  connection: RepositoryConnection,
  file: RemoteFile,
  destination: Destination,
  onProgress: (doneBytes: number) => void,
): Promise<void> {
  const { snapshotPath, blobPath, isPlaced, hasBlob } = await locate(file, destination);
  if (!isPlaced) {
    if (!hasBlob) await downloadBlob(connection, file, blobPath, onProgress);
    await linkIntoSnapshot(blobPath, snapshotPath, destination.symlinks);
  }
  onProgress(file.sizeBytes);
}

async function locate(file: RemoteFile, destination: Destination) {
  const snapshotPath = join(destination.snapshotPath, file.path);
  const blobPath = join(destination.repositoryPath, "blobs", file.hash);
  return {
    snapshotPath,
    blobPath,
    isPlaced: (await fileSizeBytes(snapshotPath)) === file.sizeBytes,
    hasBlob: (await fileSizeBytes(blobPath)) === file.sizeBytes,
  };
}

export async function assertFreeSpace(
  connection: RepositoryConnection,
  files: readonly RemoteFile[],
  cacheFolder: string,
  destination: Destination,
): Promise<void> {
  let neededBytes = 0;
  for (const file of files) {
    const { blobPath, isPlaced, hasBlob } = await locate(file, destination);
    if (isPlaced || hasBlob) continue;
    neededBytes += file.sizeBytes - ((await fileSizeBytes(partialPath(blobPath))) ?? 0);
  }
  await mkdir(cacheFolder, { recursive: true });
  const { bavail, blocks, bsize } = await statfs(cacheFolder);
  const freeBytes = bavail * bsize;
  // Some network file systems do not tell their size.
  if (blocks === 0 || neededBytes <= freeBytes) return;
  throw new InputError(
    `${connection.subject} needs ${gigabytes(neededBytes)} more in ${printable(cacheFolder)}, which has ` +
      `${gigabytes(freeBytes)} free: make room there, or set HF_HOME to a folder on a larger disk`,
  );
}

function gigabytes(sizeBytes: number): string {
  return `${(sizeBytes / 1e9).toFixed(2)} GB`;
}

export function trackProgress(
  files: readonly RemoteFile[],
  onProgress: (progress: DownloadProgress) => void,
): (file: RemoteFile, doneBytes: number) => void {
  const totalBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  const fileDoneBytes = new Map<string, number>();
  let doneBytes = 0;
  return (file, fileBytes) => {
    doneBytes += fileBytes - (fileDoneBytes.get(file.path) ?? 0);
    fileDoneBytes.set(file.path, fileBytes);
    onProgress({
      file: file.path,
      fileDoneBytes: fileBytes,
      fileTotalBytes: file.sizeBytes,
      doneBytes,
      totalBytes,
    });
  };
}

const FULL = new Set(["ENOSPC", "EDQUOT"]);
const NOT_WRITABLE = new Set(["EACCES", "EPERM", "EROFS", "ENOTDIR", "EEXIST", "EISDIR"]);

function asCacheError(error: unknown, connection: RepositoryConnection, cacheFolder: string): unknown {
  const code = (error as NodeJS.ErrnoException | undefined)?.code ?? "";
  const problem = FULL.has(code) ? "is full" : NOT_WRITABLE.has(code) ? "cannot be written" : undefined;
  if (problem === undefined) return error;
  return new InputError(
    `${connection.subject} cannot be downloaded: ${printable(cacheFolder)} ${problem} (${code}): set HF_HOME to a folder ` +
      "with room that you may write",
    { cause: error },
  );
}
