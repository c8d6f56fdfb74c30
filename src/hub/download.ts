/** A model's files from the Hub into the cache. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type RepoId, SAFETENSORS_FILE, SAFETENSORS_INDEX_FILE } from "@huggingface/hub";
import { InputError } from "../errors.ts";
import { writeRef } from "./cache.ts";
import type { RepositoryConnection } from "./http.ts";
import { fetchCommit, fetchFileList } from "./listing.ts";
import { isCompanionFile, shardNames } from "./model-files.ts";
import {
  assertFreeSpace,
  buildSnapshot,
  type Destination,
  type DownloadProgress,
  type HubCache,
  placeAll,
  placeFile,
  trackProgress,
} from "./snapshot.ts";
import type { RemoteFile } from "./transfer.ts";

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
  connection: RepositoryConnection,
  repo: RepoId,
  cache: HubCache,
  onProgress: (progress: DownloadProgress) => void,
): Promise<{ folder: string; commit: string }> {
  const commit = await fetchCommit(connection, repo);
  const files = await fetchFileList(connection, repo, commit);
  const folder = await buildSnapshot(connection, repo, commit, cache, async (destination) => {
    const companions = [...files.values()].filter((file) => isCompanionFile(file.path));
    const weights = await findWeights(connection, files, destination);
    await assertFreeSpace(connection, [...companions, ...weights], cache.folder, destination);
    const report = trackProgress([...companions, ...weights], onProgress);
    // Weights come last: a snapshot with its weights has everything.
    await placeAll(connection, companions, destination, report);
    await placeAll(connection, weights, destination, report);
    await writeRef(destination.repositoryPath, connection.revision, commit);
    return destination.snapshotPath;
  });
  return { folder, commit };
}

/** The weight files as transformers chooses them: one file where there is one, else the shards of the index. */
async function findWeights(
  connection: RepositoryConnection,
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
