import { pause } from "../hub/pause.ts";
import { printable } from "../text.ts";
import { RefusedFailure, TransientFailure } from "./failures.ts";

/** An API that speaks JSON. */
export interface Api {
  /** Without a slash at its end. */
  readonly endpoint: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Where its key comes from, for the message when that is refused. */
  readonly keyVariable: string;
}

export interface ApiRequest {
  readonly method: "GET" | "POST";
  /** From the endpoint on, with the query. */
  readonly path: string;
  readonly body?: unknown;
  /** Whether it is the same to do it twice; what reads is. */
  readonly mayRepeat?: boolean;
}

type JsonObject = Readonly<Record<string, unknown>>;

/** A request without any answer for so long has failed. */
const TIMEOUT_MS = 30_000;

/** Of what is the same when it is done twice: how often it is tried at once, and after which waits. */
const QUICK_ATTEMPTS = 4;
const QUICK_WAIT_MS = 50;
const MAX_QUICK_WAIT_MS = 2000;

/**
 * One request, tried a few times where it is the same to do it twice. Else nobody knows what of it has arrived, and the
 * caller has to find out.
 *
 * @returns the answer's JSON object; empty where it is none
 * @throws TransientFailure for 408, 409, 425, 429, 5xx and whatever the connection does; RefusedFailure for the rest
 */
export async function requestJson(api: Api, request: ApiRequest, signal: AbortSignal): Promise<JsonObject> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await requestOnce(api, request, signal);
    } catch (error) {
      const mayRepeat = request.mayRepeat ?? request.method === "GET";
      if (!(error instanceof TransientFailure) || !mayRepeat || attempt >= QUICK_ATTEMPTS) throw error;
      const waitMs = error.waitMs ?? QUICK_WAIT_MS * attempt;
      if (waitMs > MAX_QUICK_WAIT_MS) throw error;
      await pause(waitMs, signal);
    }
  }
}

async function requestOnce(api: Api, request: ApiRequest, signal: AbortSignal): Promise<JsonObject> {
  const { origin } = new URL(api.endpoint);
  let response: Response;
  let answer: string;
  try {
    response = await fetch(`${api.endpoint}${request.path}`, {
      method: request.method,
      headers: { accept: "application/json", "content-type": "application/json", ...api.headers },
      ...(request.body !== undefined && { body: JSON.stringify(request.body) }),
      // A redirected POST would arrive as an empty GET.
      redirect: "manual",
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    });
    answer = await response.text();
  } catch (error) {
    signal.throwIfAborted();
    const { name, message, cause } = error as Error & { cause?: { code?: string; message?: string } };
    const reason = name === "TimeoutError" ? `no answer in ${TIMEOUT_MS / 1000} s` : (cause?.code ?? message);
    throw new TransientFailure(`${origin} cannot be reached (${printable(reason)})`, undefined, { cause: error });
  }
  if (response.ok) return parseObject(answer);
  throw failureOf(response, answer, origin, api.keyVariable);
}

function failureOf({ status, headers }: Response, answer: string, origin: string, keyVariable: string): Error {
  const seconds = Number(headers.get("retry-after") ?? Number.NaN);
  if ([408, 409, 425, 429].includes(status) || status >= 500) {
    return new TransientFailure(`${origin} answered ${status}`, seconds >= 0 ? 1000 * seconds : undefined);
  }
  if (status === 401 || status === 403) {
    return new RefusedFailure(`${origin} does not accept ${keyVariable} (${status})`, status, answer);
  }
  return new RefusedFailure(`${origin} answered ${status}: ${printable(answer)}`, status, answer);
}

function parseObject(text: string): JsonObject {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as JsonObject) : {};
  } catch {
    return {};
  }
}

/** What an answer holds under a path of keys. */
export function answerAt(answer: unknown, ...keys: readonly string[]): unknown {
  return keys.reduce<unknown>(
    (value, key) => (typeof value === "object" && value !== null ? (value as JsonObject)[key] : undefined),
    answer,
  );
}

/**
 * A text that an answer must hold under a path of keys.
 * @throws TransientFailure where it does not: something else answers there, such as a login page
 */
export function textAt({ endpoint }: Api, answer: unknown, ...keys: readonly string[]): string {
  const value = answerAt(answer, ...keys);
  if (typeof value === "string" && value !== "") return value;
  throw new TransientFailure(`${new URL(endpoint).origin} did not answer as it should: ${keys.join(".")} is missing`);
}
