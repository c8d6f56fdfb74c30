/**
 * Every request to the Hub goes through here: the token that only the endpoint sees, bounded retries, a limit on
 * silence, and errors that say what to do.
 */
import { ExpectedError, InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { pause } from "./pause.ts";

export interface HubConnection {
  /** Address without a slash at its end. */
  endpoint: string;
  token: string | undefined;
  /** Where the repository is named and which it is, the start of every message: `model owner/name`. */
  subject: string;
  type: "model" | "dataset";
  /** `owner/name`. */
  repository: string;
  revision: string;
  /** Added to the message when the endpoint cannot be reached. */
  networkHint: string;
  timing: RetryTiming;
  onNotice: (message: string) => void;
  signal?: AbortSignal;
}

export interface RetryTiming {
  /** How often a request is made before it is given up, counted anew when the download has come further. */
  attempts: number;
  /** Wait before the second attempt; doubles each time. */
  firstWaitMs: number;
  /** The longest wait a server may ask for; the Hub counts requests in windows of five minutes. */
  maxWaitMs: number;
  /** An attempt that receives nothing for so long is cut and made again. */
  silenceMs: number;
}

export const DEFAULT_TIMING: RetryTiming = { attempts: 6, firstWaitMs: 500, maxWaitMs: 300_000, silenceMs: 60_000 };

/** An attempt that comes this much further than all before it is progress, and starts the count of attempts anew. */
const PROGRESS_BYTES = 1 << 20;

const MAX_API_ANSWER_BYTES = 64 << 20;

/** A failure that another attempt may mend. */
export class TransientError extends Error {
  readonly waitMs: number | undefined;

  constructor(message: string, waitMs?: number, options?: ErrorOptions) {
    super(message, options);
    this.waitMs = waitMs;
  }
}

/** One attempt: its signal, and the call that reports how far it has come, which also proves that it is alive. */
export interface Attempt {
  signal: AbortSignal;
  received: (positionBytes: number) => void;
}

/**
 * Runs `work` until it succeeds, fails for good, or has failed `attempts` times.
 *
 * @throws InputError when the attempts are used up; whatever `work` throws when it is not transient; the reason of the
 * connection's signal when that is aborted.
 */
export async function withRetries<T>(connection: HubConnection, work: (attempt: Attempt) => Promise<T>): Promise<T> {
  const { timing, subject } = connection;
  let furthestBytes = 0;
  for (let failures = 0; ; ) {
    const silence = new AbortController();
    const timer = setTimeout(
      () => silence.abort(new TransientError(`nothing received for ${timing.silenceMs / 1000} s`)),
      timing.silenceMs,
    );
    const signal = connection.signal ? AbortSignal.any([silence.signal, connection.signal]) : silence.signal;
    const received = (positionBytes: number) => {
      timer.refresh();
      if (positionBytes < furthestBytes + PROGRESS_BYTES) return;
      furthestBytes = positionBytes;
      failures = 0;
    };
    let failure: TransientError;
    try {
      return await work({ signal, received });
    } catch (error) {
      connection.signal?.throwIfAborted();
      failure = asTransient(error, connection);
    } finally {
      clearTimeout(timer);
    }
    failures += 1;
    const waitMs = failure.waitMs ?? timing.firstWaitMs * 2 ** (failures - 1);
    if (failures >= timing.attempts || waitMs > timing.maxWaitMs) throw unreachable(connection, failure, failures);
    connection.onNotice(
      `${subject}: ${failure.message}, trying again in ${Math.ceil(waitMs / 1000)} s (attempt ${failures + 1} of ${timing.attempts})`,
    );
    await pause(waitMs, connection.signal);
  }
}

/** fetch reports a connection that could not be made or was cut as a TypeError with one of these messages. */
const FETCH_FAILURES = new Set(["fetch failed", "terminated"]);

function asTransient(error: unknown, connection: HubConnection): TransientError {
  if (error instanceof TransientError) return error;
  if (error instanceof TypeError && FETCH_FAILURES.has(error.message)) {
    const cause = error.cause as { code?: string; message?: string } | undefined;
    const reason = cause?.code ?? cause?.message ?? error.message;
    return new TransientError(`the connection to ${connection.endpoint} failed (${printable(reason)})`, undefined, {
      cause: error,
    });
  }
  throw error;
}

function unreachable(connection: HubConnection, failure: TransientError, attempts: number): InputError {
  const { subject, repository, type, networkHint } = connection;
  const typeOption = type === "dataset" ? " --repo-type dataset" : "";
  return new InputError(
    `${subject} cannot be downloaded: ${failure.message}${attempts > 1 ? ` (${attempts} attempts)` : ""}; ` +
      "run again to go on where this stopped, or download it on a machine with network access " +
      `(hf download ${repository}${typeOption} --local-dir FOLDER) and give that folder${networkHint}`,
    { cause: failure },
  );
}

/**
 * One request, without retries.
 *
 * @returns an answer whose status is 2xx.
 * @throws TransientError for 408, 429, 5xx and any failure of a host the endpoint redirected to, whose links expire;
 * InputError for every other status.
 */
export async function request(
  connection: HubConnection,
  url: string,
  init: RequestInit & { headers: Record<string, string> },
): Promise<Response> {
  const isEndpoint = sameOrigin(url, connection.endpoint);
  // On a redirect to another origin fetch drops this header.
  const authorization = connection.token && isEndpoint ? { authorization: `Bearer ${connection.token}` } : {};
  const response = await fetch(url, { ...init, headers: { ...init.headers, ...authorization } });
  if (response.ok) return response;
  await response.body?.cancel();
  const { status } = response;
  if (status === 408 || status === 429 || status >= 500 || !sameOrigin(response.url, connection.endpoint)) {
    const waitMs = requestedWaitMs(response.headers);
    const wish = waitMs === undefined ? "" : ` and asks to wait ${waitMs / 1000} s`;
    throw new TransientError(`${new URL(response.url).origin} answered ${status}${wish}`, waitMs);
  }
  throw refusal(connection, status, response.headers.get("x-error-code"));
}

function sameOrigin(url: string, endpoint: string): boolean {
  return new URL(url).origin === new URL(endpoint).origin;
}

/** `Retry-After: 20`, or the Hub's `ratelimit: "api";r=0;t=20`: seconds until requests are counted anew. */
function requestedWaitMs(headers: Headers): number | undefined {
  const seconds =
    /^\d+$/.exec(headers.get("retry-after") ?? "")?.[0] ?? /\br=0;\s*t=(\d+)/.exec(headers.get("ratelimit") ?? "")?.[1];
  return seconds === undefined ? undefined : Number(seconds) * 1000;
}

/** The repository is there, and has no such branch, tag or commit. */
export class RevisionNotFound extends InputError {}

/** A repository's address, of which its pages and files are parts. */
export function repositoryUrl({ endpoint, type, repository }: HubConnection): string {
  return `${endpoint}/${type === "dataset" ? "datasets/" : ""}${repository}`;
}

function refusal(connection: HubConnection, status: number, errorCode: string | null): InputError {
  const { subject, endpoint, type, revision, token } = connection;
  const page = repositoryUrl(connection);
  const local = type === "dataset" ? "local file or folder" : "local folder";
  if (errorCode === "GatedRepo" || status === 403) {
    return new InputError(
      `${subject} is gated or private (${status}): accept its licence on ${page}, then set HF_TOKEN to ` +
        `${token ? "a token of that account that may read it; the token in use may not" : "a token of that account"}`,
    );
  }
  if (errorCode === "RevisionNotFound") {
    return new RevisionNotFound(`${subject} has no revision "${printable(revision)}" (${status}): see ${page}`);
  }
  // Without a token the Hub answers 401 both for what is private and for what does not exist.
  if (status === 401) {
    return new InputError(
      token
        ? `${subject}: the Hub does not accept the token in use (401): set HF_TOKEN to a valid one, and accept the licence on ${page} if there is one`
        : `${subject} is no ${local}, and on the Hub does not exist or is gated or private (401): check the name; if it is right, accept the licence on ${page} and set HF_TOKEN to a token of that account`,
    );
  }
  if (status === 404) {
    return new InputError(
      `${subject} is no ${local}, and ${endpoint} has no such repository or revision "${printable(revision)}" (404)` +
        `${token ? "" : "; if it is private, set HF_TOKEN"}`,
    );
  }
  return new InputError(`${subject} cannot be downloaded: ${endpoint} answered ${status}`);
}

/** A fetch for the functions of @huggingface/hub: whole JSON answers, received within the retries. */
export function apiFetch(connection: HubConnection): typeof fetch {
  return (input) =>
    withRetries(connection, async ({ signal, received }) => {
      const url = input instanceof Request ? input.url : String(input);
      const response = await request(connection, url, { headers: { accept: "application/json" }, signal });
      const chunks: Uint8Array[] = [];
      let sizeBytes = 0;
      for await (const chunk of response.body ?? []) {
        chunks.push(chunk);
        sizeBytes += chunk.byteLength;
        received(0);
        if (sizeBytes > MAX_API_ANSWER_BYTES) {
          throw new InputError(`${connection.subject}: ${connection.endpoint} answered with over 64 MiB of file list`);
        }
      }
      return new Response(Buffer.concat(chunks), { status: response.status, headers: response.headers });
    });
}

/**
 * Runs functions of @huggingface/hub, which trust the shape of what the server sends.
 *
 * @throws InputError when the server's answer was not what they read.
 */
export async function callHub<T>(connection: HubConnection, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof ExpectedError || connection.signal?.aborted) throw error;
    throw new InputError(
      `${connection.subject}: ${connection.endpoint} did not answer as the Hugging Face Hub does; check HF_ENDPOINT, ` +
        "and whether a proxy or a login page stands between",
      { cause: error },
    );
  }
}
