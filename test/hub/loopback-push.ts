/**
 * The part of the Hub's API that a push needs, on loopback: a hub, and on another port a host that stores large files. Every
 * request is held against the documented API; what does not conform is answered with 400 and kept in `violations`.
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";

export const TOKEN = "hf_s3cretPushT0ken";

export interface PushRequest {
  readonly server: "hub" | "storage";
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  /** Of the requests of this method and path, from 1. */
  readonly nth: number;
}

/** What happens to a request in place of what should: a status, or a cut after so many bytes of its body. */
export type PushFault = { status: number; headers?: Record<string, string>; body?: string } | { cutAfterBytes: number };

export interface RemoteModel {
  isPrivate: boolean;
  /** Branch → path → content. */
  readonly branches: Map<string, Map<string, Buffer>>;
  /** Paths of each commit. */
  readonly commits: string[][];
}

export interface PushHub {
  readonly endpoint: string;
  readonly environment: Readonly<Record<string, string>>;
  /** What /api/whoami-v2 says. */
  account: unknown;
  readonly models: Map<string, RemoteModel>;
  /** Large files by SHA-256. */
  readonly objects: Map<string, Buffer>;
  readonly seen: PushRequest[];
  readonly violations: string[];
  fault: (request: PushRequest) => PushFault | null;
  /** Files of at least so many bytes go in parts of so many. */
  partBytes: number;
  close: () => Promise<void>;
}

export function account(role = "write", more: object = {}): unknown {
  return {
    type: "user",
    id: "1",
    name: "ada",
    orgs: [
      { type: "org", id: "2", name: "analytics", roleInOrg: "write" },
      { type: "org", id: "3", name: "library", roleInOrg: "read" },
    ],
    auth: { type: "access_token", accessToken: { displayName: "test", role, ...more } },
  };
}

export function remoteModel(isPrivate = true, files: Readonly<Record<string, string>> = {}): RemoteModel {
  const main = new Map(Object.entries(files).map(([path, text]) => [path, Buffer.from(text)]));
  return { isPrivate, branches: new Map([["main", main]]), commits: [] };
}

class Refusal extends Error {
  readonly status: number;
  readonly code: string | undefined;
  constructor(status: number, message: string, code?: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

type Json = Readonly<Record<string, unknown>>;

/** An upload that the hub has given links for. */
interface Link {
  readonly oid: string;
  readonly sizeBytes: number;
  readonly parts: (Buffer | undefined)[];
}

export async function startPushHub(): Promise<PushHub> {
  const links = new Map<string, Link>();
  const counts = new Map<string, number>();
  const main = await listen((request, response) => void serve("hub", request, response));
  const storage = await listen((request, response) => void serve("storage", request, response));
  const endpoint = address(main);
  const hub: PushHub = {
    endpoint,
    environment: { HF_ENDPOINT: endpoint, HF_TOKEN: TOKEN, HF_HUB_OFFLINE: "" },
    account: account(),
    models: new Map(),
    objects: new Map(),
    seen: [],
    violations: [],
    fault: () => null,
    partBytes: 1 << 20,
    close: async () => {
      for (const server of [main, storage]) {
        server.closeAllConnections();
        if (!server.listening) continue;
        server.close();
        await once(server, "close");
      }
    },
  };
  onTestFinished(() => hub.close());
  return hub;

  async function serve(server: "hub" | "storage", request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { socket } = request;
    const url = new URL(request.url ?? "/", endpoint);
    const method = request.method ?? "";
    const key = `${server} ${method} ${url.pathname}`;
    const nth = (counts.get(key) ?? 0) + 1;
    counts.set(key, nth);
    const seen = { server, method, path: decodeURIComponent(url.pathname), headers: request.headers, nth };
    hub.seen.push(seen);
    const fault = hub.fault(seen);
    const limitBytes = fault && "cutAfterBytes" in fault ? fault.cutAfterBytes : Number.POSITIVE_INFINITY;
    const body = await readBody(request, limitBytes);
    if (fault && "status" in fault) {
      response.writeHead(fault.status, fault.headers).end(fault.body ?? "");
      return;
    }
    if (fault || body === null) return void socket.destroy();
    try {
      const answer = server === "hub" ? serveHub(seen, url, body) : serveStorage(seen, url, body);
      response.writeHead(200, { "content-type": "application/json", etag: `"${sha256(body)}"` });
      response.end(JSON.stringify(answer));
    } catch (error) {
      const refusal = error instanceof Refusal ? error : new Refusal(400, String(error));
      if (refusal.status === 400) hub.violations.push(`${method} ${url.pathname}: ${refusal.message}`);
      const code = refusal.code === undefined ? {} : { "x-error-code": refusal.code };
      response.writeHead(refusal.status, { "content-type": "application/json", ...code });
      response.end(JSON.stringify({ error: refusal.message }));
    }
  }

  function serveHub({ method, path, headers }: PushRequest, url: URL, body: Buffer): unknown {
    const route = `${method} ${path}`;
    // A link: whoever has it may.
    if (route === "POST /api/complete_multipart")
      return complete(url, jsonOf(headers, body, "application/vnd.git-lfs+json"));
    if (headers.authorization !== `Bearer ${TOKEN}`) throw new Refusal(401, `Invalid token ${headers.authorization}`);
    if (route === "GET /api/whoami-v2") return hub.account;
    if (route === "POST /api/validate-yaml") return validate(jsonOf(headers, body));
    if (route === "POST /api/repos/create") return create(jsonOf(headers, body));
    const batch = /^POST \/([^/]+\/[^/]+)\.git\/info\/lfs\/objects\/batch$/.exec(route);
    if (batch) return batchOf(batch[1]!, headers, jsonOf(headers, body, "application/vnd.git-lfs+json"));
    const [, name = "", what, branch = ""] = /^\w+ \/api\/models\/([^/]+\/[^/]+)\/(\w+)\/(.+)$/.exec(route) ?? [];
    const model = hub.models.get(name);
    if (!model) throw new Refusal(404, "Repository not found", "RepoNotFound");
    if (method === "GET" && what === "revision") return info(name, model, branch, url.searchParams);
    require(method === "POST", `no such route: ${route}`);
    if (what === "branch") return makeBranch(model, branch, jsonOf(headers, body));
    const files = model.branches.get(branch);
    if (!files) throw new Refusal(404, "Revision not found", "RevisionNotFound");
    if (what === "preupload") return preupload(jsonOf(headers, body));
    require(what === "commit", `no such route: ${route}`);
    require(headers["content-type"] === "application/x-ndjson", "a commit is NDJSON");
    return commit(name, model, files, body.toString("utf8"));
  }

  function validate({ content, repoType }: Json): unknown {
    require(typeof content === "string" && repoType === "model", "content and repoType");
    return { errors: [], warnings: [] };
  }

  function create({ type, name, organization, visibility }: Json): unknown {
    require((type ?? "model") === "model" && isName(name) && isName(organization), "type, name and organization");
    require(visibility === "private" || visibility === "public", "visibility");
    const id = `${organization}/${name}`;
    if (hub.models.has(id)) throw new Refusal(409, "You already created this model repo");
    hub.models.set(id, remoteModel(visibility === "private", { ".gitattributes": "*.safetensors filter=lfs" }));
    return { url: `${endpoint}/${id}`, name: id, id };
  }

  function info(id: string, model: RemoteModel, revision: string, query: URLSearchParams): unknown {
    require(query.getAll("expand").includes("private"), "expand");
    const files = model.branches.get(revision === "HEAD" ? "main" : revision);
    if (!files) throw new Refusal(404, "Invalid rev id", "RevisionNotFound");
    const siblings = [...files.keys()].map((rfilename) => ({ rfilename }));
    return { _id: "4", id, private: model.isPrivate, gated: false, downloads: 0, likes: 0, lastModified: 0, siblings };
  }

  function makeBranch(model: RemoteModel, branch: string, _body: Json): unknown {
    if (model.branches.has(branch)) throw new Refusal(409, "Reference already exists");
    model.branches.set(branch, new Map(model.branches.get("main")));
    return {};
  }

  function preupload({ files }: Json): unknown {
    require(Array.isArray(files) && files.length > 0 && files.length <= 100, "files");
    return {
      files: (files as Json[]).map(({ path, size, sample }) => {
        require(isPath(path) && isSize(size) && typeof sample === "string", "path, size and sample");
        require(Buffer.from(sample as string, "base64").length ===
          Math.min(512, size as number), "512 bytes of sample");
        return { path, uploadMode: /\.safetensors$/.test(path as string) ? "lfs" : "regular", shouldIgnore: false };
      }),
    };
  }

  function batchOf(name: string, headers: IncomingMessage["headers"], request: Json): unknown {
    require(hub.models.has(name), "repository");
    require(headers.accept === "application/vnd.git-lfs+json", "accept");
    const { operation, transfers, hash_algo: algorithm, objects } = request;
    require(operation === "upload" &&
      /^sha_?256$/.test(String(algorithm)) &&
      Array.isArray(objects), "operation and objects");
    require(JSON.stringify(transfers) === '["basic","multipart"]', "transfers");
    return {
      transfer: "multipart",
      objects: (objects as Json[]).map(({ oid, size }) => {
        require(/^[0-9a-f]{64}$/.test(String(oid)) && isSize(size), "oid and size");
        return {
          oid,
          size,
          ...(hub.objects.has(oid as string) ? {} : { actions: { upload: linkTo(oid as string, size as number) } }),
        };
      }),
    };
  }

  function linkTo(oid: string, sizeBytes: number): Json {
    const id = `${oid}-${links.size}`;
    const href = `${address(storage)}/${id}`;
    const count = Math.ceil(sizeBytes / hub.partBytes);
    links.set(id, { oid, sizeBytes, parts: Array.from({ length: count }) });
    if (count <= 1) return { href: `${href}/1` };
    const parts = Array.from({ length: count }, (_, i) => [String(i + 1).padStart(5, "0"), `${href}/${i + 1}`]);
    const header = { chunk_size: String(hub.partBytes), ...Object.fromEntries(parts) };
    return { href: `${endpoint}/api/complete_multipart?upload=${id}`, header };
  }

  function serveStorage({ method, headers }: PushRequest, url: URL, body: Buffer): unknown {
    require(method === "PUT", "PUT");
    require(headers.authorization === undefined && headers.cookie === undefined, "a secret was sent to the storage");
    require(headers["transfer-encoding"] === undefined, "storage wants a length");
    require(Number(headers["content-length"]) === body.length, "length");
    const [, id = "", part = ""] = url.pathname.split("/");
    const link = links.get(id);
    if (!link) throw new Refusal(403, "Request has expired");
    const from = (Number(part) - 1) * hub.partBytes;
    require(body.length === Math.min(hub.partBytes, link.sizeBytes - from), "size of the part");
    link.parts[Number(part) - 1] = body;
    if (link.parts.length <= 1) keep(link);
    return {};
  }

  function complete(url: URL, { oid, parts }: Json): unknown {
    const link = links.get(url.searchParams.get("upload") ?? "");
    require(link !== undefined && link.oid === oid && Array.isArray(parts), "upload, oid and parts");
    const found = (parts as Json[]).map(({ partNumber, etag }) => {
      const part = link!.parts[Number(partNumber) - 1];
      require(part !== undefined && etag === `"${sha256(part!)}"`, `part ${String(partNumber)}`);
      return Number(partNumber);
    });
    require(found.every((number, i) => number === i + 1) && found.length === link!.parts.length, "all parts in order");
    keep(link!);
    return {};
  }

  function keep({ oid, parts }: Link): void {
    const content = Buffer.concat(parts.map((part) => part ?? Buffer.alloc(0)));
    require(sha256(content) === oid, "SHA-256 of what arrived");
    hub.objects.set(oid, content);
  }

  function commit(name: string, model: RemoteModel, files: Map<string, Buffer>, body: string): unknown {
    const [header, ...operations] = body
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { key: string; value: Json });
    require(header?.key === "header" && typeof header.value.summary === "string", "header");
    const added = operations.map(({ key, value }): [string, Buffer] => {
      require(isPath(value.path), "path");
      if (key === "file") {
        require(value.encoding === "base64", "encoding");
        return [value.path as string, Buffer.from(value.content as string, "base64")];
      }
      const content = hub.objects.get(value.oid as string);
      require(key === "lfsFile" &&
        value.algo === "sha256" &&
        content?.length === value.size, `lfsFile ${String(value.path)}`);
      return [value.path as string, content!];
    });
    for (const [path, content] of added) files.set(path, content);
    model.commits.push(added.map(([path]) => path));
    const commitOid = String(model.commits.length).padStart(40, "0");
    return { success: true, commitOid, commitUrl: `${endpoint}/${name}/commit/${commitOid}`, hookOutput: "" };
  }
}

function require(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Refusal(400, message);
}

const isName = (value: unknown) => typeof value === "string" && /^[\w.-]+$/.test(value);
const isPath = (value: unknown) => typeof value === "string" && value !== "" && !/^\/|\.\.|\\/.test(value);
const isSize = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;

function jsonOf(headers: IncomingMessage["headers"], body: Buffer, type = "application/json"): Json {
  require(headers["content-type"] === type, `content-type ${headers["content-type"]}`);
  return JSON.parse(body.toString("utf8")) as Json;
}

export function sha256(content: Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}

/** Null where the connection ends before the body, or `limitBytes` have come. */
async function readBody(request: IncomingMessage, limitBytes: number): Promise<Buffer | null> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  try {
    for await (const chunk of request) {
      chunks.push(chunk as Buffer);
      sizeBytes += (chunk as Buffer).length;
      if (sizeBytes > limitBytes) return null;
    }
  } catch {
    return null;
  }
  return Buffer.concat(chunks);
}

function address(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function listen(handler: (request: IncomingMessage, response: ServerResponse) => void): Promise<Server> {
  const server = createServer(handler).listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}
