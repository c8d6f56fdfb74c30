/**
 * The cache that Python's huggingface_hub shares: `models--owner--name/` with `refs/` (revision → commit), `snapshots/`
 * (commit → files, as links) and `blobs/` (files by hash).
 */
import { randomUUID } from "node:crypto";
import { mkdir, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { getRepoFolderName, type RepoId, SAFETENSORS_FILE, SAFETENSORS_INDEX_FILE } from "@huggingface/hub";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { REQUIRED_FILES, shardNames } from "./model-files.ts";

export const COMMIT_HASH = /^[0-9a-f]{40}$/;

/** What the cache holds for a revision. Complete when `missing` is empty. */
export interface Snapshot {
  folder: string;
  commit: string;
  /** Names of required files that are not there. */
  missing: string[];
}

/** A repository's folder in the cache. */
export function repositoryFolder(cacheFolder: string, repo: RepoId): string {
  return join(cacheFolder, getRepoFolderName(repo));
}

export function snapshotFolder(repositoryPath: string, commit: string): string {
  return join(repositoryPath, "snapshots", commit);
}

/** The size of a file, links followed; undefined when there is none. */
export async function fileSizeBytes(path: string): Promise<number | undefined> {
  try {
    const stats = await stat(path);
    return stats.isFile() ? stats.size : undefined;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ENOTDIR" || code === "ELOOP") return undefined;
    throw error;
  }
}

/** The commit that the cache knows a revision by; undefined when it knows none. */
export async function readCommit(repositoryPath: string, revision: string): Promise<string | undefined> {
  if (COMMIT_HASH.test(revision)) return revision;
  const path = join(repositoryPath, "refs", revision);
  if ((await fileSizeBytes(path)) === undefined) return undefined;
  const commit = (await readFile(path, "utf8")).trim();
  return COMMIT_HASH.test(commit) ? commit : undefined;
}

async function missingModelFiles(folder: string): Promise<string[]> {
  const absent = async (name: string) => (await fileSizeBytes(join(folder, name))) === undefined;
  const missing: string[] = [];
  for (const name of REQUIRED_FILES) if (await absent(name)) missing.push(name);
  if (!(await absent(SAFETENSORS_FILE))) return missing;
  if (await absent(SAFETENSORS_INDEX_FILE)) return [...missing, SAFETENSORS_FILE];
  try {
    const index = await readFile(join(folder, SAFETENSORS_INDEX_FILE), "utf8");
    for (const shard of shardNames(index, SAFETENSORS_INDEX_FILE)) if (await absent(shard)) missing.push(shard);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    missing.push(`a readable ${SAFETENSORS_INDEX_FILE}`);
  }
  return missing;
}

/**
 * Looks up a model at a revision (branch, tag or commit) without the network; undefined when no snapshot is known.
 *
 * @throws InputError when the cache cannot be read.
 */
export async function findModelSnapshot(repositoryPath: string, revision: string): Promise<Snapshot | undefined> {
  return readingCache(repositoryPath, async () => {
    const commit = await readCommit(repositoryPath, revision);
    if (commit === undefined) return undefined;
    const folder = snapshotFolder(repositoryPath, commit);
    return { folder, commit, missing: await missingModelFiles(folder) };
  });
}

/** @throws InputError when the file system does not let the cache be read */
export async function readingCache<T>(repositoryPath: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === undefined) throw error;
    throw new InputError(
      `cannot read the Hub cache ${printable(repositoryPath)} (${code}): mend it, or set HF_HOME to another folder`,
      { cause: error },
    );
  }
}

/** Records that `revision` is `commit`, in one rename. A commit needs no record of itself. */
export async function writeRef(repositoryPath: string, revision: string, commit: string): Promise<void> {
  if (revision === commit) return;
  const path = join(repositoryPath, "refs", revision);
  const temporary = `${path}.${randomUUID().slice(0, 8)}.tmp`;
  await mkdir(dirname(path), { recursive: true });
  await writeFile(temporary, commit);
  await rename(temporary, path);
}

const NO_SYMLINKS = new Set(["EPERM", "EACCES", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL"]);

/**
 * Makes a blob appear in a snapshot: a relative link, so the cache can be moved; where links are not to be had, the
 * file itself moves there, as in Python, so that the disk holds it once.
 */
export async function linkIntoSnapshot(blobPath: string, snapshotPath: string, symlinks: boolean): Promise<void> {
  await mkdir(dirname(snapshotPath), { recursive: true });
  await rm(snapshotPath, { force: true });
  if (symlinks) {
    try {
      await symlink(relative(dirname(snapshotPath), blobPath), snapshotPath);
      return;
    } catch (error) {
      if (!NO_SYMLINKS.has((error as NodeJS.ErrnoException).code ?? "")) throw error;
    }
  }
  await rename(blobPath, snapshotPath);
}
