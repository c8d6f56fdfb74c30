import { type CommitOutput, type CommitProgressEvent, commitIter, createBranch, createRepo } from "@huggingface/hub";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { fileError } from "../weights/regular-file.ts";
import { callHub } from "./http.ts";
import { type PushConnection, type PushTarget, RefusedError, StaleLinkError } from "./push-connection.ts";
import { uploadFetch } from "./upload-fetch.ts";
import type { RemoteRepository } from "./write-access.ts";

/** A file as it is to stand in a repository. */
export interface UploadFile {
  /** Path in the repository. */
  readonly path: string;
  readonly sizeBytes: number;
  /** A file of this machine, or text. */
  readonly content: URL | Blob;
}

export interface UploadProgress {
  readonly phase: "hashing" | "sending";
  readonly path: string;
  /** Of all files. */
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface Uploaded {
  /** Address of the commit, as the Hub gives it; untrusted. */
  readonly commitUrl: string;
  /** Large files that the Hub had already, so that they were not sent. */
  readonly known: readonly string[];
}

/** Makes the repository and the branch where there are none. */
export async function makeRepository(
  connection: PushConnection,
  { repository, revision, isPrivate }: PushTarget,
  remote: RemoteRepository | null,
): Promise<void> {
  const { endpoint, token } = connection;
  const place = { repo: { type: "model", name: repository }, hubUrl: endpoint, accessToken: token } as const;
  const fetch = uploadFetch(connection);
  if (remote === null) {
    const visibility = isPrivate ? "private" : "public";
    await unlessThere(() => callHub(connection, () => createRepo({ ...place, visibility, fetch })));
  }
  if (revision !== "main" && (remote === null || remote.files === null)) {
    await unlessThere(() => callHub(connection, () => createBranch({ ...place, branch: revision, fetch })));
  }
}

/** Another may have made it meanwhile, or an attempt whose answer was lost. */
async function unlessThere(make: () => Promise<unknown>): Promise<void> {
  try {
    await make();
  } catch (error) {
    if (!(error instanceof RefusedError) || error.status !== 409) throw error;
  }
}

/**
 * What the Hub holds against the metadata of a model card, which huggingface_hub asks it as well; null for nothing.
 * @throws InputError where it cannot be asked
 */
export async function cardProblem(connection: PushConnection, card: string): Promise<string | null> {
  const body = JSON.stringify({ content: card, repoType: "model" });
  const init = { method: "POST", headers: { "content-type": "application/json" }, body };
  try {
    await callHub(connection, () => uploadFetch(connection)(`${connection.endpoint}/api/validate-yaml`, init));
    return null;
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error;
    // Another server than the Hub's own may not look at cards.
    if (error.status === 404) return null;
    if (error.status !== 400) throw error;
    return printable(error.reason ?? "it does not say why", 500);
  }
}

/** How often links are asked for anew: they live for hours, so that a second time is rare. */
const MAX_ROUNDS = 4;

/**
 * Sends files and makes one commit of them, so that the repository never holds a part of them. Large files go by the LFS
 * protocol, and those that the Hub has already, of an earlier attempt or another repository, are not sent.
 *
 * @throws InputError; the signal's reason when it is aborted
 */
export async function uploadFiles(
  connection: PushConnection,
  target: Pick<PushTarget, "repository" | "revision">,
  files: readonly UploadFile[],
  title: string,
  onProgress: (progress: UploadProgress) => void,
): Promise<Uploaded> {
  const progress = trackUpload(files, onProgress);
  for (let round = 1; ; round++) {
    const output = await callHub(connection, () => commit(connection, target, files, title, progress.onEvent));
    if (!(output instanceof StaleLinkError)) return { commitUrl: output.commit.url, known: progress.known() };
    if (round === MAX_ROUNDS) throw new InputError(`${connection.subject}: ${output.message}`, { cause: output });
    connection.onNotice(`${connection.subject}: ${output.message}, asking for new links`);
  }
}

/** A file that cannot be read any more is not the Hub's fault. */
function asFileError(error: unknown): unknown {
  const { path, syscall } = error as NodeJS.ErrnoException;
  return path !== undefined && syscall !== undefined ? fileError(path, "read", error) : error;
}

/** A stale link is no failure: it comes back. */
async function commit(
  connection: PushConnection,
  { repository, revision }: Pick<PushTarget, "repository" | "revision">,
  files: readonly UploadFile[],
  title: string,
  onEvent: (event: CommitProgressEvent) => void,
): Promise<CommitOutput | StaleLinkError> {
  connection.signal?.throwIfAborted();
  const events = commitIter({
    repo: { type: "model", name: repository },
    branch: revision,
    title,
    operations: files.map(({ path, content }) => ({ operation: "addOrUpdate", path, content })),
    hubUrl: connection.endpoint,
    fetch: uploadFetch(connection),
    // The Hub moves what comes by LFS to Xet itself. The library's Xet sends one part at a time, holds hundreds of
    // megabytes, and begins a file anew after a break just the same.
    useXet: false,
    ...(connection.signal && { abortSignal: connection.signal }),
  });
  try {
    // To its end, also when it is aborted: else the library's own promises would fail with nobody listening.
    for (;;) {
      const { done, value } = await events.next();
      if (!done) onEvent(value);
      else if (value) return value;
      else throw new Error("internal: a commit to a repository has no output");
    }
  } catch (error) {
    connection.signal?.throwIfAborted();
    if (error instanceof StaleLinkError) return error;
    throw asFileError(error);
  }
}

/** Hashing alone tells of its progress thousands of times a second. */
const PROGRESS_INTERVAL_MS = 100;

function trackUpload(files: readonly UploadFile[], onProgress: (progress: UploadProgress) => void) {
  const sizes = new Map(files.map(({ path, sizeBytes }) => [path, sizeBytes]));
  const totalBytes = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const shares = { hashing: new Map<string, number>(), sending: new Map<string, number>() };
  const sent = new Set<string>();
  const known = new Set<string>();
  let toldMs = 0;
  return {
    known: () => [...known],
    onEvent: (event: CommitProgressEvent) => {
      if (event.event !== "fileProgress" || event.state === "error") return;
      const { path, progress, state } = event;
      const phase = state === "uploading" ? "sending" : "hashing";
      if (phase === "sending") {
        // What has to be sent begins at 0.
        if (progress < 1) sent.add(path);
        else if (!sent.has(path)) known.add(path);
      }
      shares[phase].set(path, progress);
      const nowMs = performance.now();
      if (nowMs - toldMs < PROGRESS_INTERVAL_MS) return;
      toldMs = nowMs;
      const doneBytes = [...shares[phase]].reduce((sum, [name, share]) => sum + share * (sizes.get(name) ?? 0), 0);
      onProgress({ phase, path, doneBytes, totalBytes });
    },
  };
}
