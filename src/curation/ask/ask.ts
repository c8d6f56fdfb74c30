import pLimit from "p-limit";
import { InputError } from "../../errors.ts";
import { pause } from "../../hub/pause.ts";
import { type Budget, estimateTokens } from "./budget.ts";
import type { Journal, Response, Usage } from "./journal.ts";
import { type Outcome, type Question, settle, settleAll } from "./questions.ts";
import { type ChatRequest, type ChatServer, type ServerFailure, shownUrl } from "./server.ts";

export interface AskSettings {
  /** Calls under way at once, for each server. */
  readonly concurrency: number;
  /** Calls of one question that may fail before it is given up. */
  readonly attempts: number;
  /** How often a question is asked again whose answer cannot be used. */
  readonly askAgain: number;
  /** Before the second call; doubled for each further one, and spread by a random share. */
  readonly backoffMs: number;
}

export interface AskOptions extends AskSettings {
  readonly journal: Journal;
  readonly budget: Budget;
  /** Starts no further call; those under way are waited for and kept. */
  readonly signal: AbortSignal;
  readonly onProgress: (done: number, total: number, failedCalls: number) => void;
}

export interface Asked<T> {
  /** By the questions' hashes. */
  readonly outcomes: ReadonlyMap<string, Outcome<T>>;
  readonly stopped: EarlyStop | null;
}

/** Why questions are left unasked: the budget is used up, or a server has failed so many questions in a row. */
export type EarlyStop = "budget" | "failures";

export function formatStop(stopped: EarlyStop | null): string[] {
  if (stopped === null) return [];
  return stopped === "budget"
    ? ["the budget is used up: the same command with a larger one goes on from here"]
    : [`stopped, because ${MAX_FAILURES_IN_A_ROW} questions in a row failed: the same command goes on from here`];
}

/** Questions given up, with no answer between: the server is down, and the others would wait in vain. */
const MAX_FAILURES_IN_A_ROW = 20;

const MAX_BACKOFF_MS = 60_000;
/** A server that asks for more is not waited for: its questions are listed as failed. */
const MAX_RETRY_AFTER_MS = 10 * 60_000;
/** Of dense text, for what is set aside, which is not to be exceeded. */
const FEWEST_CHARACTERS_PER_TOKEN = 2.5;
/** What a chat template puts around a message, at most. */
const TOKENS_PER_MESSAGE = 16;

/** What a call takes at most, for the budget. */
export function mostOf({ messages, maxTokens }: ChatRequest): Usage {
  const text = messages.map(({ content }) => content).join("\n");
  return {
    promptTokens: estimateTokens(text, FEWEST_CHARACTERS_PER_TOKEN) + TOKENS_PER_MESSAGE * messages.length,
    completionTokens: maxTokens,
    isEstimated: true,
  };
}

/**
 * Asks what the journal does not answer, each question once however often it is in the list, and keeps every answer in
 * the journal before it counts. A call that fails is repeated after a wait, and given up after `attempts`: that is an
 * outcome like others, and the next run asks again.
 *
 * @throws InputError where no call to a server can succeed, as with a wrong key, or the journal cannot be written; the
 *   signal's reason. Either once the calls under way have ended
 */
export async function askAll<T extends object>(
  questions: readonly Question<T>[],
  options: AskOptions,
): Promise<Asked<T>> {
  const { settled: outcomes, open } = settleAll(questions, options.journal.entries, options.askAgain);
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  const servers = new Set(open.map(({ question }) => question.server));
  const lanes = new Map([...servers].map((server) => [server, createLane<T>(server, { ...options, signal }, stop)]));
  let done = 0;
  await Promise.all(
    open.map(async ({ question, earlier }) => {
      outcomes.set(question.hash, await lanes.get(question.server)!.ask(question, earlier));
      const failedCalls = [...lanes.values()].reduce((sum, { failedCalls }) => sum + failedCalls(), 0);
      options.onProgress(++done, open.length, failedCalls);
    }),
  );
  const { aborted, reason } = stop.signal;
  const stopped = reason === "budget" || reason === "failures" ? reason : null;
  if (aborted && stopped === null) throw reason;
  options.signal.throwIfAborted();
  return { outcomes, stopped };
}

interface Lane<T extends object> {
  /** Settles a question, or leaves it unasked where all is to stop. Throws nothing: what it cannot go on from stops all. */
  readonly ask: (question: Question<T>, responses: readonly Response[]) => Promise<Outcome<T>>;
  readonly failedCalls: () => number;
}

/** The calls to one server: so many at once, and none before the time that the server asks for. */
function createLane<T extends object>(server: ChatServer, options: AskOptions, stop: AbortController): Lane<T> {
  const { journal, budget, signal, attempts, askAgain, backoffMs } = options;
  const limit = pLimit(options.concurrency);
  let notBeforeMs = 0;
  let failedCalls = 0;
  let failuresInARow = 0;

  function giveUp(reason: string): Outcome<T> {
    failuresInARow++;
    if (failuresInARow >= MAX_FAILURES_IN_A_ROW) stop.abort("failures" satisfies EarlyStop);
    return { kind: "failed", reason };
  }

  async function call(question: Question<T>): Promise<Response | ServerFailure> {
    const most = mostOf(question.request);
    for (let waitMs = notBeforeMs - Date.now(); waitMs > 0; waitMs = notBeforeMs - Date.now()) {
      await pause(waitMs, signal);
    }
    signal.throwIfAborted();
    if (!(await budget.reserve(most))) stop.abort("budget" satisfies EarlyStop);
    else if (signal.aborted) budget.release(most);
    signal.throwIfAborted();

    const at = new Date().toISOString();
    const startMs = performance.now();
    const answer = await server.ask(question.request);
    const elapsedMs = Math.round(performance.now() - startMs);
    const made = { request: question.hash, model: server.model, at, elapsedMs };
    if (answer.kind === "response") {
      budget.settle(most, answer.usage);
      const response: Response = { ...made, ...answer };
      await journal.append(response);
      return response;
    }
    const usage = answer.mayBeBilled ? most : null;
    budget.settle(most, usage);
    failedCalls++;
    await journal.append({ ...made, kind: "failure", status: answer.status, reason: answer.reason, usage });
    if (answer.retry === "nothing") throw unservable(server, answer);
    return answer;
  }

  async function settleQuestion(question: Question<T>, earlier: readonly Response[]): Promise<Outcome<T>> {
    const responses = [...earlier];
    for (let failures = 0; ; ) {
      const answer = await call(question);
      if (answer.kind === "response") {
        failuresInARow = 0;
        responses.push(answer);
        const outcome = settle(question, responses, askAgain);
        if (outcome !== null) return outcome;
        continue;
      }
      if (answer.retry === "adapted") continue;
      failures++;
      const retryAfterMs = answer.retryAfterMs ?? 0;
      if (answer.retry === "never" || failures >= attempts || retryAfterMs > MAX_RETRY_AFTER_MS) {
        return giveUp(answer.reason);
      }
      if (retryAfterMs > 0) notBeforeMs = Math.max(notBeforeMs, Date.now() + retryAfterMs);
      else await pause(Math.min(MAX_BACKOFF_MS, backoffMs * 2 ** (failures - 1) * (0.75 + Math.random() / 2)), signal);
    }
  }

  return {
    failedCalls: () => failedCalls,
    ask: (question, responses) =>
      limit(async () => {
        if (signal.aborted) return { kind: "unasked" };
        try {
          return await settleQuestion(question, responses);
        } catch (error) {
          // Where all stops, each question ends with the reason: the first of them is the cause.
          if (!signal.aborted) stop.abort(error);
          return { kind: "unasked" };
        }
      }),
  };
}

function unservable(server: ChatServer, { status, reason }: ServerFailure): InputError {
  const hints: Readonly<Record<number, string>> = {
    401: server.apiKey === null ? "it asks for a key, and none is set" : "it does not accept the key",
    403: "the key may not do this",
    404: "it does not know the model, or the address is wrong",
  };
  const hint = hints[status ?? 0] ?? "the account has nothing left";
  return new InputError(
    `${shownUrl(server.baseUrl)} refuses every call for ${server.shownModel}: ${hint} (${reason}); what was answered is kept, and the same command goes on`,
  );
}
