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
  /** How a failure is told, which depends on what the connection is for. */
  failures: HubFailures;
  timing: RetryTiming;
  onNotice: (message: string) => void;
  signal?: AbortSignal;
}

/** A connection that reads a repository. */
export interface RepositoryConnection extends HubConnection {
  type: "model" | "dataset";
  /** `owner/name`. */
  repository: string;
  revision: string;
}

export interface HubFailures {
  /** No attempt is left. */
  gaveUp: (failure: TransientError, attempts: number) => InputError;
  /** The endpoint answered with a status that another attempt does not mend. */
  refused: (refusal: Refusal) => Error;
  /** So did another host, to which the endpoint gave a link. `said` is what it answered. */
  linkRefused: (said: string, waitMs: number | undefined) => Error;
}

/** An answer of the endpoint that ends the work. */
export interface Refusal {
  status: number;
  /** The Hub's name for it: `RepoNotFound`. */
  errorCode: string | null;
  /** Its reason in words; untrusted. */
  reason: string | null;
}

export interface RetryTiming {
  /** How often a request is made before it is given up, counted anew when a transfer has come further. */
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
    if (failures >= timing.attempts || waitMs > timing.maxWaitMs) throw connection.failures.gaveUp(failure, failures);
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

/**
 * One request, without retries.
 *
 * @returns an answer whose status is 2xx.
 * @throws TransientError for 408, 429 and 5xx; for every other status what the connection's failures make of it.
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
  const { status } = response;
  const isTransient = status === 408 || status === 429 || status >= 500;
  const isLink = !sameOrigin(response.url, connection.endpoint);
  if (!isTransient && !isLink) {
    const errorCode = response.headers.get("x-error-code");
    throw connection.failures.refused({ status, errorCode, reason: await reasonOf(response, connection.token) });
  }
  await response.body?.cancel();
  const waitMs = requestedWaitMs(response.headers);
  const wish = waitMs === undefined ? "" : ` and asks to wait ${waitMs / 1000} s`;
  const said = `${new URL(response.url).origin} answered ${status}${wish}`;
  throw isTransient ? new TransientError(said, waitMs) : connection.failures.linkRefused(said, waitMs);
}

const MAX_REASON_BYTES = 64 << 10;

/** What a refusal says: the Hub's header for it, else `error` or `errors` of its JSON. Never the token, whoever sends it back. */
async function reasonOf(response: Response, token: string | undefined): Promise<string | null> {
  const isJson = response.headers.get("content-type")?.startsWith("application/json") ?? false;
  const start = isJson ? await readStart(response) : "";
  if (!isJson) await response.body?.cancel();
  const text = response.headers.get("x-error-message") ?? errorIn(start);
  return token && text ? text.replaceAll(token, "…") : text;
}

async function readStart(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk);
    sizeBytes += chunk.byteLength;
    if (sizeBytes > MAX_REASON_BYTES) break;
  }
  return Buffer.concat(chunks).toString("utf8");
}

function errorIn(json: string): string | null {
  try {
    const answer: unknown = JSON.parse(json);
    const { error, errors } = (answer ?? {}) as { error?: unknown; errors?: unknown };
    if (typeof error === "string") return error;
    const messages = Array.isArray(errors) ? errors.map((one: { message?: unknown } | null) => one?.message) : [];
    const texts = messages.filter((message) => typeof message === "string");
    return texts.length > 0 ? texts.join("; ") : null;
  } catch {
    return null;
  }
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

/** A fetch for the functions of @huggingface/hub that read: whole JSON answers, received within the retries. */
export function apiFetch(connection: HubConnection): typeof fetch {
  return (input) =>
    withRetries(connection, async ({ signal, received }) => {
      const url = input instanceof Request ? input.url : String(input);
      const response = await request(connection, url, { headers: { accept: "application/json" }, signal });
      return readWhole(connection, response, () => received(0));
    });
}

/** An answer of which everything has arrived. @throws InputError where it is far too long to be one of the API */
export async function readWhole(
  connection: HubConnection,
  { body, status, headers }: Response,
  onChunk: () => void,
): Promise<Response> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of body ?? []) {
    chunks.push(chunk);
    sizeBytes += chunk.byteLength;
    onChunk();
    if (sizeBytes > MAX_API_ANSWER_BYTES) {
      throw new InputError(`${connection.subject}: ${connection.endpoint} answered with over 64 MiB`);
    }
  }
  return new Response(Buffer.concat(chunks), { status, headers });
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
