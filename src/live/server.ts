import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { InputError } from "../errors.ts";
import { pause } from "../hub/pause.ts";
import { Channel } from "./channel.ts";
import { pagesOf, type Shown } from "./site.ts";

/** Only this machine reaches it. */
const ADDRESS = "127.0.0.1";
const LOOPBACK_NAMES = new Set(["127.0.0.1", "localhost", "[::1]"]);
/** Where pages are shown if nothing else is asked for. */
export const DEFAULT_PORT = 8008;
const POLL_MS = 1000;
const BEATS_EVERY = 15;
/** What the end waits for readers to take the rest. */
const ENDING_MS = 1000;
/** What it waits for pages that are being loaded anew, which would find nobody; looked at so often. */
const RELOADING_MS = 2000;
const RELOADING_POLL_MS = 50;

/** Sent with everything: no other site may read, frame or keep it. */
const HEADERS = {
  "cache-control": "no-store",
  "content-security-policy": "frame-ancestors 'none'",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
};

/** Shows runs to browsers of this machine. */
export interface LiveServer {
  /** Where they find it. */
  readonly url: string;
  /** Sends the rest and closes. May be called again. */
  readonly end: () => Promise<void>;
}

/**
 * Serves the pages of a run or a sweep on the loopback interface, and keeps those that are open up to date from the runs'
 * files. A request must name this machine as its host (against DNS rebinding) and, where it names an origin, the same one.
 *
 * @param port null for port 8008, or where that is taken any free one; 0 for any free one
 * @param onProblem told what a page could not be made for
 * @throws InputError where the port cannot be had
 */
export async function serveLive(
  shown: Shown,
  port: number | null,
  onProblem: (message: string) => void,
): Promise<LiveServer> {
  const channels = new Map(pagesOf(shown).map((page) => [decoded(page.path), new Channel(page)]));
  const server = createServer((request, response) => {
    answer(request, response, channels).catch((error: Error) => {
      onProblem(error.message);
      if (response.headersSent) response.destroy();
      else refuse(response, 500, "the page could not be made: the run's terminal says why");
    });
  });
  await listen(server, port);
  const stop = new AbortController();
  const following = follow([...channels.values()], stop.signal, onProblem);
  const close = async () => {
    stop.abort();
    await following;
    for (const channel of channels.values()) await channel.finish().catch((error: Error) => onProblem(error.message));
    const isReloading = () => [...channels.values()].some((channel) => channel.isReloading);
    for (let waitedMs = 0; waitedMs < RELOADING_MS && isReloading(); waitedMs += RELOADING_POLL_MS) {
      await pause(RELOADING_POLL_MS, undefined);
    }
    const closed = new Promise((resolve) => server.close(resolve));
    for (const channel of channels.values()) channel.end();
    server.closeIdleConnections();
    const timer = setTimeout(() => server.closeAllConnections(), ENDING_MS);
    await closed;
    clearTimeout(timer);
  };
  let closing: Promise<void> | undefined;
  return {
    url: `http://${ADDRESS}:${(server.address() as AddressInfo).port}/`,
    end: () => {
      closing ??= close();
      return closing;
    },
  };
}

type Server = ReturnType<typeof createServer>;

async function listen(server: Server, port: number | null): Promise<void> {
  try {
    await listenOn(server, port ?? DEFAULT_PORT);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (port === null && code === "EADDRINUSE") return listenOn(server, 0);
    throw new InputError(
      `--live: port ${port ?? DEFAULT_PORT} of ${ADDRESS} cannot be had (${code}): choose another, or 0 for any free one`,
      { cause: error },
    );
  }
}

function listenOn(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, ADDRESS, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

async function follow(channels: readonly Channel[], signal: AbortSignal, onProblem: (message: string) => void) {
  let lastProblem = "";
  for (let round = 1; !signal.aborted; round++) {
    for (const channel of channels) {
      try {
        await channel.advance();
        if (round % BEATS_EVERY === 0) channel.beat();
      } catch (error) {
        const { message } = error as Error;
        if (message !== lastProblem) onProblem(message);
        lastProblem = message;
      }
    }
    await pause(POLL_MS, signal).catch(() => {});
  }
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  channels: ReadonlyMap<string, Channel>,
): Promise<void> {
  for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
  const { host = "", origin } = request.headers;
  if (!isLoopback(host)) return refuse(response, 403, "this page is for this machine: open it as localhost");
  if (origin !== undefined && origin !== `http://${host}`) return refuse(response, 403, "not for pages of other sites");
  if (request.method !== "GET" && request.method !== "HEAD") {
    response.setHeader("allow", "GET, HEAD");
    return refuse(response, 405, "there is nothing here to change");
  }
  const url = URL.canParse(request.url ?? "", `http://${host}`) ? new URL(request.url ?? "", `http://${host}`) : null;
  const [, folder = "", name = ""] = /^(.*\/)([^/]*)$/s.exec(decoded(url?.pathname ?? "")) ?? [];
  const channel = channels.get(folder);
  if (!url || !channel || !["", "events"].includes(name)) return refuse(response, 404, "no such page");
  if (name === "events" && request.method === "GET") {
    const last = request.headers["last-event-id"];
    return channel.attach(response, url.searchParams, typeof last === "string" ? last : undefined);
  }
  const html = name === "" ? await channel.html() : "";
  response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end(html);
}

/** Any port: a tunnel may have another at its other end. */
function isLoopback(host: string): boolean {
  const [, name = "", port] = /^(\[[^\]]*\]|[^:]*)(:\d*)?$/.exec(host.toLowerCase()) ?? [];
  return LOOPBACK_NAMES.has(name) && (port === undefined || port.length > 1);
}

function refuse(response: ServerResponse, status: number, why: string): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(`${why}\n`);
}

function decoded(pathname: string): string {
  try {
    return decodeURIComponent(pathname);
  } catch {
    return "";
  }
}
