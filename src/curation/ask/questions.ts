import { createHash } from "node:crypto";
import type { JournalEntry, Response } from "./journal.ts";
import type { ChatRequest, ChatServer } from "./server.ts";

/** Why an answer that came cannot be used. */
export interface Unusable {
  readonly unusable: "refusal" | "cut" | "invalid JSON" | "wrong shape" | "no verdict";
  readonly reason: string;
}

/** Something to ask a server, and how to read what it answers. */
export interface Question<T extends object> {
  readonly server: ChatServer;
  readonly request: ChatRequest;
  /** Of the request: the same is asked once, also by another run. */
  readonly hash: string;
  readonly read: (response: Pick<Response, "content" | "refusal" | "finishReason">) => T | Unusable;
}

export type Outcome<T> =
  | { readonly kind: "answer"; readonly value: T }
  | { readonly kind: "unusable"; readonly unusable: Unusable }
  /** Its calls failed; another run asks again. */
  | { readonly kind: "failed"; readonly reason: string }
  | { readonly kind: "unasked" };

/**
 * What identifies a question: all that its answer depends on, but not the address that the model is asked at.
 *
 * @param model the model's name, or what else tells two that are asked the same apart
 */
export function hashRequest(model: string, { messages, temperature, maxTokens, schema }: ChatRequest): string {
  const turns = messages.map(({ role, content }) => [role, content]);
  return sha256Hex(JSON.stringify([model, turns, temperature, maxTokens, schema?.name ?? null]));
}

export function sha256Hex(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** The responses among a journal's entries, by what was asked. */
function responsesByRequest(entries: readonly JournalEntry[]): Map<string, Response[]> {
  const responses = new Map<string, Response[]>();
  for (const entry of entries) {
    if (entry.kind !== "response") continue;
    const known = responses.get(entry.request);
    if (known) known.push(entry);
    else responses.set(entry.request, [entry]);
  }
  return responses;
}

/** The questions that `entries` settle, by their hashes, and the others. */
export function settleAll<T extends object>(
  questions: readonly Question<T>[],
  entries: readonly JournalEntry[],
  askAgain: number,
): { readonly settled: Map<string, Outcome<T>>; readonly open: readonly OpenQuestion<T>[] } {
  const responses = responsesByRequest(entries);
  const settled = new Map<string, Outcome<T>>();
  const open = new Map<string, OpenQuestion<T>>();
  for (const question of questions) {
    const earlier = responses.get(question.hash) ?? [];
    const outcome = settle(question, earlier, askAgain);
    if (outcome === null) open.set(question.hash, { question, earlier });
    else settled.set(question.hash, outcome);
  }
  return { settled, open: [...open.values()] };
}

/** A question that is to be asked, and what came of it before. */
export interface OpenQuestion<T extends object> {
  readonly question: Question<T>;
  readonly earlier: readonly Response[];
}

/**
 * What the responses to a question make of it: the first that can be used; else why the last cannot, once the question has
 * been asked again `askAgain` times, and at once for a refusal. Null where it is to be asked.
 */
export function settle<T extends object>(
  { read }: Question<T>,
  responses: readonly Response[],
  askAgain: number,
): Outcome<T> | null {
  let last: Unusable | null = null;
  for (const response of responses) {
    const found = read(response);
    if (!("unusable" in found)) return { kind: "answer", value: found };
    last = found;
  }
  if (last === null) return null;
  return last.unusable === "refusal" || responses.length > askAgain ? { kind: "unusable", unusable: last } : null;
}
