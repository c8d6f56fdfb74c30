/** What `model:` in a config names → a local folder. */
import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import type { RepoId } from "@huggingface/hub";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { findModelSnapshot, repositoryFolder } from "./cache.ts";
import { downloadModel } from "./download.ts";
import { downloadFailures } from "./download-failures.ts";
import {
  type Environment,
  expandHome,
  findToken,
  hubCacheFolder,
  hubEndpoint,
  isOffline,
  mayUseSymlinks,
  proxyHint,
} from "./environment.ts";
import { DEFAULT_TIMING, type RepositoryConnection, type RetryTiming } from "./http.ts";
import { isNameShaped, isRepositoryName, isRevision } from "./repository-name.ts";
import type { DownloadProgress, HubCache } from "./snapshot.ts";

/** A model folder, and where it comes from. */
export type ResolvedModel =
  | { source: "local"; folder: string }
  /** From the Hub: `cache` without asking the network, which a newer commit of `revision` does not change. */
  | { source: "cache" | "download"; folder: string; repository: string; revision: string; commit: string };

export interface ResolveOptions {
  /** Where the reference is written, the start of every message: `model`, or `configs/twin.yaml:3:8: model`. */
  place?: string;
  onProgress?: (progress: DownloadProgress) => void;
  /** Told in a sentence when something is waited for or tried again. */
  onNotice?: (message: string) => void;
  signal?: AbortSignal;
  env?: Environment;
  timing?: RetryTiming;
}

export interface HubReference {
  repo: RepoId;
  /** A branch, tag or commit. */
  revision: string;
}

const FILE_EXTENSION =
  /\.(safetensors|bin|pth?|ckpt|gguf|onnx|h5|json|jsonl|ya?ml|txt|md|csv|tsv|parquet|zip|tar|t?gz)$/i;

/**
 * Finds the folder of a model: a local folder; else `owner/name` or `owner/name@revision` from the Hub's cache, or,
 * when that has not all of it, downloaded into the cache.
 *
 * @throws InputError, a sentence with the remedy, for whatever keeps the model from being there; the signal's reason when
 * it is aborted.
 */
export async function resolveModel(reference: string, options: ResolveOptions = {}): Promise<ResolvedModel> {
  const { place = "model", env = process.env } = options;
  const local = expandHome(reference, env);
  const kind = await localKind(local);
  if (kind === "folder") return { source: "local", folder: resolve(local) };
  if (kind === "file") {
    throw new InputError(`${place} "${printable(reference)}" is a file: give the folder that holds config.json`);
  }
  const found = parseHubReference(reference, place);
  const { repo, revision } = found;
  const subject = `${place} ${repo.name}`;
  const origin = { repository: repo.name, revision };

  const cache = hubCache(env);
  const snapshot = await findModelSnapshot(repositoryFolder(cache.folder, repo), revision);
  if (snapshot?.missing.length === 0) {
    return { source: "cache", folder: snapshot.folder, ...origin, commit: snapshot.commit };
  }
  if (isOffline(env)) {
    const state = snapshot ? `lacks ${printable(snapshot.missing.join(", "))}` : `has no revision "${revision}" of it`;
    throw new InputError(
      `${subject} is not a local folder, HF_HUB_OFFLINE forbids the network, and the cache ${printable(cache.folder)} ` +
        `${state}: unset HF_HUB_OFFLINE, or give a local folder`,
    );
  }
  const connection = await connect(found, subject, options);
  const { folder, commit } = await downloadModel(connection, repo, cache, options.onProgress ?? (() => {}));
  return { source: "download", folder, ...origin, commit };
}

/** The Hub's cache, as the environment has it. */
export function hubCache(env: Environment): HubCache {
  return { folder: resolve(hubCacheFolder(env)), symlinks: mayUseSymlinks(env) };
}

/** @param subject the start of every message. @throws InputError where the environment's endpoint or token is unusable */
export async function connect(
  { repo, revision }: HubReference,
  subject: string,
  { env = process.env, timing = DEFAULT_TIMING, onNotice = () => {}, signal }: ResolveOptions,
): Promise<RepositoryConnection> {
  const download = {
    endpoint: hubEndpoint(env),
    token: await findToken(env),
    subject,
    type: repo.type === "dataset" ? ("dataset" as const) : ("model" as const),
    repository: repo.name,
    revision,
  };
  const failures = downloadFailures(download, proxyHint(env));
  return { ...download, failures, timing, onNotice, ...(signal ? { signal } : {}) };
}

/** The folder of a model as far as it is on this machine, whole or not: local, or in the Hub's cache; else null. */
export async function findModelFolder(reference: string, env: Environment = process.env): Promise<string | null> {
  const local = expandHome(reference, env);
  if ((await localKind(local)) === "folder") return resolve(local);
  if (!looksLikeHubId(reference)) return null;
  const { repo, revision } = parseHubReference(reference, "model");
  const snapshot = await findModelSnapshot(repositoryFolder(resolve(hubCacheFolder(env)), repo), revision);
  return snapshot?.folder ?? null;
}

/** Whether a reference could name a repository of the Hub: `owner/name`, with or without a revision. */
export function looksLikeHubId(reference: string): boolean {
  const name = reference.split("@")[0]!;
  return isNameShaped(name) && !FILE_EXTENSION.test(name);
}

/** Whether there is a folder or a file at a path, or nothing. */
export async function localKind(path: string): Promise<"folder" | "file" | undefined> {
  // A NUL names no file, and Node answers it with an error that is not the system's.
  if (path === "" || path.includes("\0")) return undefined;
  try {
    return (await stat(path)).isDirectory() ? "folder" : "file";
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ENOTDIR" || code === "ENAMETOOLONG") return undefined;
    throw new InputError(`cannot read "${printable(path)}" (${code})`, { cause: error });
  }
}

/**
 * `owner/name` or `owner/name@revision`; the revision is `main` when none is given.
 *
 * @throws InputError saying whether it looks like a path that does not exist, or like neither.
 */
export function parseHubReference(reference: string, place: string, type: "model" | "dataset" = "model"): HubReference {
  const local = type === "dataset" ? "file or folder" : "folder";
  const shown = `${place} "${printable(reference)}"`;
  const at = reference.indexOf("@");
  const name = at < 0 ? reference : reference.slice(0, at);
  const revision = at < 0 ? "main" : reference.slice(at + 1);
  const isPath = /^[./~]|\\|\/.*\/|\/$/.test(name) || FILE_EXTENSION.test(name);
  if (isPath) {
    throw new InputError(
      `${shown} does not exist: give an existing ${local} (a relative path starts at ${printable(process.cwd(), 1000)}), or a Hub id as owner/name`,
    );
  }
  if (!isRepositoryName(name)) {
    throw new InputError(
      `${shown} is neither an existing ${local} nor a Hub id: write owner/name, owner/name@revision, or a path to a ${local}`,
    );
  }
  if (!isRevision(revision)) {
    throw new InputError(`${shown} has no usable revision after "@": give a branch, a tag or a commit`);
  }
  return { repo: { type, name }, revision };
}
