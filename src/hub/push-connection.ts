import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { type Environment, findToken, hubEndpoint, isOffline, proxyHint } from "./environment.ts";
import { DEFAULT_TIMING, type HubConnection, type HubFailures, type Refusal, type RetryTiming } from "./http.ts";

/** Where a model goes. */
export interface PushTarget {
  /** `owner/name`. */
  readonly repository: string;
  /** A branch. */
  readonly revision: string;
  readonly isPrivate: boolean;
}

export interface PushOptions {
  readonly env: Environment;
  readonly onNotice?: (message: string) => void;
  readonly signal?: AbortSignal;
  readonly timing?: RetryTiming;
}

/** A connection that writes to a repository. */
export interface PushConnection extends HubConnection {
  token: string;
}

/** The Hub, or what lies between, does not answer: another time it may. */
export class UnreachableError extends InputError {}

/** The Hub answered, and refuses. */
export class RefusedError extends InputError {
  readonly status: number;
  readonly errorCode: string | null;
  /** In the Hub's words; untrusted. */
  readonly reason: string | null;

  constructor(message: string, { status, errorCode, reason }: Refusal) {
    super(message);
    this.status = status;
    this.errorCode = errorCode;
    this.reason = reason;
  }
}

/** A storage host refuses a link that the Hub gave, as it does when that is too old. New links may mend it. */
export class StaleLinkError extends Error {}

/**
 * A connection to push over, once the token is found. Nobody is asked yet.
 *
 * @param place where the repository is named, the start of every message: `push_to_hub`, `--to`
 * @throws InputError where the environment forbids the network, has no token, or one that is none
 */
export async function connectToPush(
  { repository }: Pick<PushTarget, "repository">,
  place: string,
  { env, onNotice = () => {}, signal, timing = DEFAULT_TIMING }: PushOptions,
): Promise<PushConnection> {
  const subject = `${place} ${repository}`;
  const endpoint = hubEndpoint(env);
  if (isOffline(env)) {
    throw new InputError(
      `${subject}: HF_HUB_OFFLINE forbids the network: unset it, or push another time with dpo-train push`,
    );
  }
  const token = await findToken(env);
  if (token === undefined) {
    throw new InputError(
      `${subject} needs a token that may write there, from ${endpoint}/settings/tokens: set HF_TOKEN in the environment or in a file .env in this folder`,
    );
  }
  if (!token.startsWith("hf_")) {
    throw new InputError(`${subject}: the token in use is not the Hub's, which begins with hf_: look at HF_TOKEN`);
  }
  const failures = pushFailures(subject, endpoint, proxyHint(env));
  return { endpoint, token, subject, failures, timing, onNotice, ...(signal && { signal }) };
}

function pushFailures(subject: string, endpoint: string, networkHint: string): HubFailures {
  return {
    gaveUp: (failure, attempts) => {
      const times = attempts > 1 ? ` (${attempts} attempts)` : "";
      return new UnreachableError(`${subject}: ${failure.message}${times}${networkHint}`, { cause: failure });
    },
    refused: (refusal) => new RefusedError(`${subject}: ${refusedPush(refusal, endpoint)}`, refusal),
    linkRefused: (said) => new StaleLinkError(said),
  };
}

function refusedPush({ status, reason }: Refusal, endpoint: string): string {
  const why = reason ? `: ${printable(reason, 500)}` : "";
  switch (status) {
    case 401:
      return `${endpoint} does not accept the token in use (401): set HF_TOKEN to a valid one, from ${endpoint}/settings/tokens`;
    case 403:
      return `the token in use may not write there (403)${why}; make one that may on ${endpoint}/settings/tokens`;
    case 404:
      return `${endpoint} has no such repository, or the token in use may not see it (404)`;
    default:
      return `${endpoint} answered ${status}${why}`;
  }
}
