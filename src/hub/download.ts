/** A model's files from the Hub into the cache. */
import { mkdir, readFile, statfs } from "node:fs/promises";
import { join } from "node:path";
import { getRepoFolderName, type RepoId, SAFETENSORS_FILE, SAFETENSORS_INDEX_FILE } from "@huggingface/hub";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { fileSizeBytes, linkIntoSnapshot, repositoryFolder, snapshotFolder, writeRef } from "./cache.ts";
import type { HubConnection } from "./http.ts";
import { fetchCommit, fetchFileList } from "./listing.ts";
import { withLock } from "./lock.ts";
import { isCompanionFile, shardNames } from "./model-files.ts";
import { downloadBlob, partialPath, type RemoteFile } from "./transfer.ts";

export interface DownloadProgress {
  /** The file that just grew. */
  file: string;
  fileDoneBytes: number;
  fileTotalBytes: number;
  /** Of all the model's files, those in the cache before included. */
  doneBytes: number;
  totalBytes: number;
}

/** Where a snapshot is built. */
interface Destination {
  repositoryPath: string;
  snapshotPath: string;
  symlinks: boolean;
}

/** A content delivery network limits each connection; more than a few gain nothing. */
const PARALLEL_FILES = 4;

/**
 * Downloads a model's configuration, tokenizer, notices and safetensors weights into the cache, in the layout that
 * Python's huggingface_hub reads. What is there already, also half a file, is not downloaded again. Another process
 * that downloads the same model is waited for.
 *
 * @returns the snapshot's folder and commit.
 * @throws InputError when the repository is not a model we can load, access is refused, the disk is too small, or the
 * network or the server fails for good.
 */
export async function downloadModel(
  connection: HubConnection,
  repo: RepoId,
  cacheFolder: string,
  symlinks: boolean,
  onProgress: (progress: DownloadProgress) => void,
): Promise<{ folder: string; commit: string }> {
  const commit = await fetchCommit(connection, repo);
  const files = await fetchFileList(connection, repo, commit);
  const repositoryPath = repositoryFolder(cacheFolder, repo);
  const folder = snapshotFolder(repositoryPath, commit);
  const destination = { repositoryPath, snapshotPath: folder, symlinks };
  const lockPath = join(cacheFolder, ".locks", getRepoFolderName(repo), "dpo-train.lock");
  const onWait = () => connection.onNotice(`${connection.subject}: waiting for another process that downloads it`);
  try {
    await withLock(
      lockPath,
      onWait,
      async () => {
        const companions = [...files.values()].filter((file) => isCompanionFile(file.path));
        const weights = await findWeights(connection, files, destination);
        await assertFreeSpace(connection, [...companions, ...weights], cacheFolder, destination);
        const report = trackProgress([...companions, ...weights], onProgress);
        // Weights come last: a snapshot with its weights has everything.
        await placeAll(connection, companions, destination, report);
        await placeAll(connection, weights, destination, report);
        await writeRef(repositoryPath, connection.revision, commit);
      },
      connection.signal,
    );
  } catch (error) {
    throw asCacheError(error, connection, cacheFolder);
  }
  return { folder, commit };
}

/** The weight files as transformers chooses them: one file where there is one, else the shards of the index. */
async function findWeights(
  connection: HubConnection,
  files: ReadonlyMap<string, RemoteFile>,
  destination: Destination,
): Promise<RemoteFile[]> {
  const single = files.get(SAFETENSORS_FILE);
  if (single) return [single];
  const index = files.get(SAFETENSORS_INDEX_FILE)!;
  await placeFile(connection, index, destination, () => {});
  const text = await readFile(join(destination.snapshotPath, index.path), "utf8");
  const place = `${connection.subject}: ${SAFETENSORS_INDEX_FILE}`;
  const shards = shardNames(text, place).map((name) => {
    const shard = files.get(name);
    if (!shard) throw new InputError(`${place} names ${name}, which the repository does not have`);
    return shard;
  });
  return [index, ...shards];
}

/** Downloads several files at once. When one fails, the others stop where they are, to be resumed. */
async function placeAll(
  connection: HubConnection,
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
async function placeFile(
  connection: HubConnection,
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

async function assertFreeSpace(
  connection: HubConnection,
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

function trackProgress(
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

function asCacheError(error: unknown, connection: HubConnection, cacheFolder: string): unknown {
  const code = (error as NodeJS.ErrnoException | undefined)?.code ?? "";
  const problem = FULL.has(code) ? "is full" : NOT_WRITABLE.has(code) ? "cannot be written" : undefined;
  if (problem === undefined) return error;
  return new InputError(
    `${connection.subject} cannot be downloaded: ${printable(cacheFolder)} ${problem} (${code}): set HF_HOME to a folder ` +
      "with room that you may write",
    { cause: error },
  );
}
