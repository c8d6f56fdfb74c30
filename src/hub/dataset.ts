/** Files of a data set from the Hub: which ones, the caller says. */
import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { writeFileAtomically } from "../weights/atomic-file.ts";
import { makeFolder } from "../weights/make-folder.ts";
import { fileSizeBytes, readCommit, readingCache, repositoryFolder, snapshotFolder, writeRef } from "./cache.ts";
import { isOffline } from "./environment.ts";
import type { RepositoryConnection } from "./http.ts";
import { fetchAllFiles, fetchCommit } from "./listing.ts";
import { connect, type HubReference, hubCache, type ResolveOptions } from "./resolve.ts";
import { assertFreeSpace, buildSnapshot, type HubCache, placeAll, placeFile, trackProgress } from "./snapshot.ts";

/** What a repository holds, for the caller to choose from. */
export interface RepositoryListing {
  /** Every file's path, with "/". */
  readonly paths: readonly string[];
  /** Undefined where there is none. */
  readonly readme: string | undefined;
}

/** The files that are wanted; undefined where the repository has none. */
export type ChooseFiles = (listing: RepositoryListing) => readonly string[] | undefined;

export interface DatasetSnapshot {
  /** `cache`: without asking the network, which a newer commit of `revision` does not change. */
  readonly source: "cache" | "download";
  readonly folder: string;
  readonly commit: string;
  /** Paths in the folder, as they were chosen; undefined where there was nothing to choose. */
  readonly files: readonly string[] | undefined;
  readonly paths: readonly string[];
}

/** The network is forbidden, and the cache has not all of a data set. */
export class NotCached extends InputError {}

const README = "README.md";
/** Far above any README. */
const MAX_README_BYTES = 16 * 2 ** 20;

/**
 * Finds files of a data set in the Hub's cache, or downloads them into it: once, resumed where an earlier run stopped, each
 * checked against its hash. What the repository holds is kept beside the snapshots, as a cached part of a repository does
 * not tell whether a split is whole.
 *
 * @param subject the start of every message
 * @throws InputError, a sentence with the remedy, for whatever keeps the files from being there; whatever `choose` throws;
 *   the signal's reason when it is aborted
 */
export async function resolveDataset(
  reference: HubReference,
  subject: string,
  choose: ChooseFiles,
  options: ResolveOptions = {},
): Promise<DatasetSnapshot> {
  const { env = process.env } = options;
  const cache = hubCache(env);
  const offline = isOffline(env);
  const repositoryPath = repositoryFolder(cache.folder, reference.repo);
  const cached = await readingCache(repositoryPath, () =>
    findInCache(repositoryPath, reference.revision, choose, offline),
  );
  if (cached) return cached;
  if (!offline) return download(await connect(reference, subject, options), reference, cache, choose, options);
  throw new NotCached(
    `${subject} is no local file or folder, HF_HUB_OFFLINE forbids the network, and the cache ${printable(cache.folder)} ` +
      `has not all of its files at revision "${reference.revision}": unset HF_HUB_OFFLINE, or give local files`,
  );
}

async function findInCache(
  repositoryPath: string,
  revision: string,
  choose: ChooseFiles,
  offline: boolean,
): Promise<DatasetSnapshot | undefined> {
  const commit = await readCommit(repositoryPath, revision);
  if (commit === undefined) return undefined;
  const folder = snapshotFolder(repositoryPath, commit);
  // Without a list of ours, another program has filled the cache: what it left is all that can be had without the network.
  const sizes = (await readListing(repositoryPath, commit)) ?? (offline ? await listFolder(folder) : undefined);
  if (sizes === undefined) return undefined;
  const isPlaced = async (path: string) => (await fileSizeBytes(join(folder, path))) === sizes.get(path);
  if (sizes.has(README) && !(await isPlaced(README))) return undefined;
  const listing = await listingOf(sizes, folder);
  const files = choose(listing);
  for (const path of files ?? []) if (!(await isPlaced(path))) return undefined;
  return { source: "cache", folder, commit, files, paths: listing.paths };
}

async function download(
  connection: RepositoryConnection,
  { repo }: HubReference,
  cache: HubCache,
  choose: ChooseFiles,
  { onProgress = () => {} }: ResolveOptions,
): Promise<DatasetSnapshot> {
  const commit = await fetchCommit(connection, repo);
  const remote = await fetchAllFiles(connection, repo, commit);
  const sizes = new Map([...remote].map(([path, { sizeBytes }]) => [path, sizeBytes]));
  return buildSnapshot(connection, repo, commit, cache, async (destination) => {
    const folder = destination.snapshotPath;
    const readme = remote.get(README);
    if (readme) await placeFile(connection, readme, destination, () => {});
    const listing = await listingOf(sizes, folder);
    const files = choose(listing);
    const wanted = (files ?? []).map((path) => remote.get(path)!);
    await assertFreeSpace(connection, wanted, cache.folder, destination);
    await placeAll(connection, wanted, destination, trackProgress(wanted, onProgress));
    await writeListing(destination.repositoryPath, commit, sizes);
    await writeRef(destination.repositoryPath, connection.revision, commit);
    return { source: "download", folder, commit, files, paths: listing.paths };
  });
}

/** Sizes in bytes by path. */
type Sizes = ReadonlyMap<string, number>;

async function listingOf(sizes: Sizes, folder: string): Promise<RepositoryListing> {
  const hasReadme = (sizes.get(README) ?? Number.POSITIVE_INFINITY) <= MAX_README_BYTES;
  return {
    // A backslash separates folders on Windows, and in a name leads out of ours.
    paths: [...sizes.keys()].filter((path) => !path.includes("\\")),
    readme: hasReadme ? await readFile(join(folder, README), "utf8") : undefined,
  };
}

function listingPath(repositoryPath: string, commit: string): string {
  return join(repositoryPath, ".dpo-train", `${commit}.json`);
}

async function writeListing(repositoryPath: string, commit: string, sizes: Sizes): Promise<void> {
  const path = listingPath(repositoryPath, commit);
  await makeFolder(dirname(path));
  await writeFileAtomically(path, JSON.stringify([...sizes]));
}

/** Undefined where there is none, or what is there was damaged: then the Hub is asked again. */
async function readListing(repositoryPath: string, commit: string): Promise<Sizes | undefined> {
  const path = listingPath(repositoryPath, commit);
  if ((await fileSizeBytes(path)) === undefined) return undefined;
  try {
    const entries: unknown = JSON.parse(await readFile(path, "utf8"));
    return isListing(entries) ? new Map(entries) : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function isListing(value: unknown): value is [string, number][] {
  const isEntry = (entry: unknown) =>
    Array.isArray(entry) && entry.length === 2 && typeof entry[0] === "string" && typeof entry[1] === "number";
  return (
    Array.isArray(value) && value.every(isEntry) && !value.some(([path]: string[]) => path!.split("/").includes(".."))
  );
}

async function listFolder(folder: string): Promise<Sizes | undefined> {
  if (
    !(await readdir(folder).then(
      () => true,
      () => false,
    ))
  )
    return undefined;
  const names = await readdir(folder, { recursive: true });
  const sizes = new Map<string, number>();
  for (const name of names) {
    const sizeBytes = await fileSizeBytes(join(folder, name));
    if (sizeBytes !== undefined) sizes.set(name.replaceAll("\\", "/"), sizeBytes);
  }
  return sizes;
}
