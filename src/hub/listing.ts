/** What a repository holds at a revision, as far as a model folder needs it. */
import { datasetInfo, type ListFileEntry, listFiles, modelInfo, type RepoId } from "@huggingface/hub";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { COMMIT_HASH } from "./cache.ts";
import { repositoryUrl } from "./download-failures.ts";
import { apiFetch, callHub, type RepositoryConnection } from "./http.ts";
import { assertModelRepository, assertRelativePath, isCompanionFile, isWeightFile } from "./model-files.ts";
import type { RemoteFile } from "./transfer.ts";

/** No repository of a model or of pairs comes near; a server that never ends its list does. */
const MAX_LISTED_FILES = 100_000;

/** The commit that the connection's revision is now. */
export async function fetchCommit(connection: RepositoryConnection, repo: RepoId): Promise<string> {
  const { endpoint, revision, subject } = connection;
  const info = repo.type === "dataset" ? datasetInfo<"sha"> : modelInfo<"sha">;
  const { sha } = await callHub(connection, () =>
    info({
      name: repo.name,
      revision,
      additionalFields: ["sha"],
      hubUrl: endpoint,
      fetch: apiFetch(connection),
    }),
  );
  if (typeof sha !== "string" || !COMMIT_HASH.test(sha)) {
    throw new InputError(`${subject}: ${endpoint} names no commit for revision "${printable(revision)}"`);
  }
  return sha;
}

/**
 * The files at the repository's root by name, of those a model folder may take.
 *
 * @throws InputError when they do not make a model folder, or cannot be trusted or checked.
 */
export async function fetchFileList(
  connection: RepositoryConnection,
  repo: RepoId,
  commit: string,
): Promise<Map<string, RemoteFile>> {
  const entries = await listRepository(connection, repo, commit, false);
  assertModelRepository(
    entries.map((entry) => entry.path),
    connection.subject,
  );
  const wanted = entries.filter(({ path }) => isCompanionFile(path) || isWeightFile(path));
  return new Map(wanted.map((entry) => [entry.path, remoteFile(entry, commit, connection)]));
}

/** Every file of the repository by its path, folders and all. @throws InputError when they cannot be trusted or checked */
export async function fetchAllFiles(
  connection: RepositoryConnection,
  repo: RepoId,
  commit: string,
): Promise<Map<string, RemoteFile>> {
  const entries = await listRepository(connection, repo, commit, true);
  return new Map(entries.map((entry) => [entry.path, remoteFile(entry, commit, connection)]));
}

async function listRepository(
  connection: RepositoryConnection,
  repo: RepoId,
  commit: string,
  recursive: boolean,
): Promise<ListFileEntry[]> {
  const { endpoint, subject } = connection;
  const options = { repo, revision: commit, recursive, hubUrl: endpoint, fetch: apiFetch(connection) };
  return callHub(connection, async () => {
    const files: ListFileEntry[] = [];
    for await (const entry of listFiles(options)) {
      assertRelativePath(entry.path, subject);
      files.push(entry);
      if (files.length > MAX_LISTED_FILES) throw new InputError(`${subject} lists over ${MAX_LISTED_FILES} files`);
    }
    return files.filter((entry) => entry.type === "file");
  });
}

function remoteFile(entry: ListFileEntry, commit: string, connection: RepositoryConnection): RemoteFile {
  const { path, lfs } = entry;
  const hash = lfs ? lfs.oid : entry.oid;
  const sizeBytes = lfs ? lfs.size : entry.size;
  if (!(lfs ? /^[0-9a-f]{64}$/ : COMMIT_HASH).test(String(hash)) || !Number.isSafeInteger(sizeBytes) || sizeBytes < 0) {
    const shown = printable(path);
    throw new InputError(
      `${connection.subject}: the server lists ${shown} without a size and hash to check it against`,
    );
  }
  const url = `${repositoryUrl(connection)}/resolve/${commit}/${path.split("/").map(encodeURIComponent).join("/")}`;
  return { path, url, sizeBytes, hash: String(hash), algorithm: lfs ? "sha256" : "git-sha1" };
}
