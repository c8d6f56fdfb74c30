/** The part of the Hub's API that a download needs, on loopback: a hub, and a CDN on another port that holds LFS files. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export const COMMIT = "0123456789abcdef0123456789abcdef01234567";

export interface SeenRequest {
  server: "hub" | "cdn";
  path: string;
  authorization: string | undefined;
  range: string | undefined;
}

/** Answers a request in place of the hub; false lets the hub answer. `nth` counts requests of this path from 1. */
export type Fault = (request: SeenRequest, response: ServerResponse, nth: number) => boolean;

export interface LoopbackHub {
  endpoint: string;
  /**
   * `owner/name`, for a data set `datasets/owner/name` → file name → content. Large formats are LFS files. A name with
   * `@revision` holds what another revision than main has.
   */
  repositories: Map<string, Map<string, Buffer>>;
  /** Branch, tag or commit → commit. */
  revisions: Map<string, string>;
  seen: SeenRequest[];
  fault: Fault;
  /** Changes what the file listing says. */
  editListing: (entries: Record<string, unknown>[]) => unknown;
  close(): Promise<void>;
}

export function sha256(content: Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}

export function gitHash(content: Buffer): string {
  return createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");
}

/** Sends `sent` of the bytes it announced, and cuts the connection. */
export function cutAfter(response: ServerResponse, content: Buffer, sent: number): true {
  response.writeHead(200, { "content-length": content.length });
  response.write(content.subarray(0, sent), () => setTimeout(() => response.destroy(), 50));
  return true;
}

export function answer(response: ServerResponse, status: number, headers: Record<string, string> = {}): true {
  response.writeHead(status, headers).end(`status ${status}`);
  return true;
}

export async function startHub(): Promise<LoopbackHub> {
  const cdn = await listen((request, response) => serve("cdn", request, response));
  const main = await listen((request, response) => serve("hub", request, response));
  const counts = new Map<string, number>();
  const hub: LoopbackHub = {
    endpoint: address(main),
    repositories: new Map(),
    revisions: new Map([
      ["main", COMMIT],
      [COMMIT, COMMIT],
    ]),
    seen: [],
    fault: () => false,
    editListing: (entries) => entries,
    close: async () => {
      for (const server of [main, cdn]) {
        server.closeAllConnections();
        server.close();
        await once(server, "close");
      }
    },
  };

  function serve(server: "hub" | "cdn", request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? "/", "http://loopback");
    const { authorization, range } = request.headers;
    const seen = { server, path: url.pathname, authorization, range };
    hub.seen.push(seen);
    const nth = (counts.get(server + seen.path) ?? 0) + 1;
    counts.set(server + seen.path, nth);
    if (hub.fault(seen, response, nth)) return;
    if (server === "cdn") serveBlob(seen.path.slice(1), seen, response);
    else serveHub(url, seen, response);
  }

  function serveHub(url: URL, seen: SeenRequest, response: ServerResponse): unknown {
    const api = /^\/api\/(?:models\/|(datasets\/))([^/]+\/[^/]+)\/(revision|tree)\/([^/]+)$/.exec(url.pathname);
    const file = /^\/((?:datasets\/)?[^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(url.pathname);
    const name = api ? `${api[1] ?? ""}${api[2]}` : (file?.[1] ?? "");
    const revision = decodeURIComponent(api?.[4] ?? file?.[2] ?? "");
    const commit = hub.revisions.get(revision);
    const repository = hub.repositories.get(`${name}@${commit}`) ?? hub.repositories.get(name);
    if (!repository) return answer(response, 404, { "x-error-code": "RepoNotFound" });
    if (!commit) return answer(response, 404, { "x-error-code": "RevisionNotFound" });
    if (api?.[3] === "revision") return json(response, { _id: "1", id: api[2], sha: commit, lastModified: 0 });
    if (api) return serveListing(url, repository, response);
    const path = decodeURIComponent(file?.[3] ?? "");
    const content = repository.get(path);
    if (!content) return answer(response, 404, { "x-error-code": "EntryNotFound" });
    if (!isLarge(path)) return sendContent(content, seen, response);
    return response
      .writeHead(302, { location: `${address(cdn)}/${sha256(content)}?X-Signature=secret-signature` })
      .end();
  }

  function serveListing(url: URL, repository: Map<string, Buffer>, response: ServerResponse): unknown {
    const pageSize = 4;
    const from = Number(url.searchParams.get("cursor") ?? 0);
    const entries = [...repository].map(([path, content]) => listingEntry(path, content));
    if (from + pageSize < entries.length) {
      response.setHeader("link", `<${hub.endpoint}${url.pathname}?cursor=${from + pageSize}>; rel="next"`);
    }
    return json(response, hub.editListing(entries.slice(from, from + pageSize)));
  }

  function serveBlob(hash: string, seen: SeenRequest, response: ServerResponse): unknown {
    const contents = [...hub.repositories.values()].flatMap((files) => [...files.values()]);
    const content = contents.find((candidate) => sha256(candidate) === hash);
    return content ? sendContent(content, seen, response) : answer(response, 404);
  }

  return hub;
}

function isLarge(path: string): boolean {
  return /\.(safetensors|parquet|gz)$/.test(path);
}

function listingEntry(path: string, content: Buffer): Record<string, unknown> {
  const size = content.length;
  if (!isLarge(path)) return { type: "file", path, size, oid: gitHash(content) };
  const pointer = Buffer.from(`oid sha256:${sha256(content)}\nsize ${size}\n`);
  const lfs = { oid: sha256(content), size, pointerSize: pointer.length };
  return { type: "file", path, size, oid: gitHash(pointer), lfs };
}

function sendContent(content: Buffer, { range }: SeenRequest, response: ServerResponse): void {
  const from = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
  const part = content.subarray(from);
  const headers = { "content-length": part.length, "content-type": "application/octet-stream" };
  if (!range) response.writeHead(200, headers);
  else {
    const contentRange = `bytes ${from}-${content.length - 1}/${content.length}`;
    response.writeHead(206, { ...headers, "content-range": contentRange });
  }
  response.end(part);
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value));
}

function address(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function listen(handler: (request: IncomingMessage, response: ServerResponse) => void): Promise<Server> {
  const server = createServer(handler).listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}
