/** The part of OpenAI's API that curation needs, on loopback, with faults on demand. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";

export interface ApiRequest {
  readonly path: string | undefined;
  readonly authorization: string | undefined;
  readonly atMs: number;
  readonly body: {
    readonly model: string;
    readonly messages: readonly { readonly role: string; readonly content: string }[];
    readonly temperature: number;
    readonly max_tokens?: number;
    readonly max_completion_tokens?: number;
    readonly response_format?: { readonly type: string };
  };
  /** The last message: what is asked. */
  readonly question: string;
  /** Which call of this question it is, from 1. */
  readonly nth: number;
}

/** What the server does in place of its answer; undefined lets it answer. May take its time. */
export type Fault = (
  request: ApiRequest,
  response: ServerResponse,
) => boolean | undefined | Promise<boolean | undefined>;

export interface ApiServer {
  readonly baseUrl: string;
  readonly seen: ApiRequest[];
  /** Calls that have been answered with a completion. */
  answered: number;
  fault: Fault;
  /** What it writes; an object is sent as JSON. */
  reply: (request: ApiRequest) => unknown;
}

/** Sends a completion. */
export function complete(response: ServerResponse, content: unknown, more: Record<string, unknown> = {}): true {
  const text = typeof content === "string" ? content : JSON.stringify(content);
  const message = { role: "assistant", content: text, refusal: null };
  const body = JSON.stringify({
    id: "chatcmpl-1",
    object: "chat.completion",
    choices: [{ index: 0, message, finish_reason: "stop" }],
    usage: { prompt_tokens: 700, completion_tokens: 500, total_tokens: 1200 },
    ...more,
  });
  response.writeHead(200, { "content-type": "application/json" }).end(body);
  return true;
}

export function refuse(response: ServerResponse, refusal = "I can't help with that."): true {
  return complete(response, null, {
    choices: [{ index: 0, message: { role: "assistant", content: null, refusal }, finish_reason: "stop" }],
  });
}

export function fail(
  response: ServerResponse,
  status: number,
  message: string,
  headers: Record<string, string> = {},
): true {
  response
    .writeHead(status, { "content-type": "application/json", ...headers })
    .end(JSON.stringify({ error: { message, type: "error", code: null, param: null } }));
  return true;
}

/** Announces an answer and ends the connection in its middle. */
export function cut(response: ServerResponse): true {
  response.writeHead(200, { "content-type": "application/json", "content-length": 5000 });
  response.write('{"choices":[{"message":{"content":"', () => setTimeout(() => response.destroy(), 5));
  return true;
}

export async function startApi(reply: ApiServer["reply"]): Promise<ApiServer> {
  const counts = new Map<string, number>();
  const server = createServer((request, response) => void serve(request, response));
  const api: ApiServer = { baseUrl: "", seen: [], answered: 0, fault: () => false, reply };

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const body = JSON.parse(Buffer.concat(chunks).toString("utf8")) as ApiRequest["body"];
    const question = body.messages.at(-1)!.content;
    const key = JSON.stringify([body.model, question]);
    const nth = (counts.get(key) ?? 0) + 1;
    counts.set(key, nth);
    const seen: ApiRequest = {
      path: request.url,
      authorization: request.headers.authorization,
      atMs: Date.now(),
      body,
      question,
      nth,
    };
    api.seen.push(seen);
    if (await api.fault(seen, response)) return;
    api.answered++;
    complete(response, api.reply(seen));
  }

  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return Object.assign(api, { baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1` });
}

/** The extract in a prompt of `data build`. */
export function extractOf({ question }: ApiRequest): string {
  return question.split("Extract:\n")[1]!.trim();
}

/** Five triples as a good model writes them: each answer a part of the extract, from one sentence end to another. */
export function goodTriples(request: ApiRequest): { preference_triples: Record<string, string>[] } {
  const extract = extractOf(request);
  const sentences = extract.match(/[A-Z][^.!?]*[.!?]/g) ?? [];
  const triples = [0, 1, 2, 3, 4].map((i) => ({
    instruction: `Tell me about topic ${i} of ${sentences[0]!.slice(0, 40)}`,
    generated_answer: `A generated answer number ${i} about ${sentences[0]!.slice(0, 40)}.`,
    extracted_answer: `${sentences[i * 2]} ${sentences[i * 2 + 1]}`,
  }));
  return { preference_triples: triples };
}
