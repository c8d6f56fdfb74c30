import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";

// Comet, MLflow and W&B on loopback, as far as runs are sent to them. Every request is held against the documented API:
// what does not conform is answered with 400 and kept in `violations`.

export const KEYS = { comet: "comet-key-5f3a9c", wandb: "wandb-key-81d2e7", mlflow: "mlflow-key-c04b6e" };

type Json = Readonly<Record<string, unknown>>;

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage["headers"];
  readonly body: Json;
  /** Of all requests, from 1. */
  readonly nth: number;
}

/** A point that has arrived: a metric's name, step and value. */
export type Point = readonly [name: string, step: number, value: number];

export interface RemoteRun {
  readonly name: string;
  readonly project: string;
  readonly points: Point[];
  readonly parameters: Map<string, string>;
  readonly texts: Map<string, string>;
  status: string;
  /** W&B's history by place. */
  readonly lines: Map<number, Json>;
}

export interface Loopback {
  readonly endpoint: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly runs: Map<string, RemoteRun>;
  readonly seen: SeenRequest[];
  readonly violations: string[];
  /** Asked of each request: "before" cuts the connection and does nothing, "after" does it and cuts; a number is a status. */
  fault: (request: SeenRequest) => "before" | "after" | number | null;
  delayMs: number;
  readonly close: () => Promise<void>;
}

class Refusal extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string) {
    super(code);
    this.status = status;
    this.code = code;
  }
}

export async function startLoopback(port = 0): Promise<Loopback> {
  const runs = new Map<string, RemoteRun>();
  const experiments = new Map<string, string>();
  const tokens = new Map<string, string>();
  const loopback = {
    runs,
    seen: [] as SeenRequest[],
    violations: [] as string[],
    fault: (() => null) as Loopback["fault"],
    delayMs: 0,
  };
  const server = createServer((request, response) => {
    void serve(request, response);
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const close = async () => {
    server.closeAllConnections();
    if (!server.listening) return;
    server.close();
    await once(server, "close");
  };
  onTestFinished(close);

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString("utf8");
    const url = new URL(request.url ?? "/", "http://loopback");
    const seen: SeenRequest = {
      method: request.method ?? "",
      path: url.pathname,
      query: url.searchParams,
      headers: request.headers,
      body: text === "" ? {} : (JSON.parse(text) as Json),
      nth: loopback.seen.length + 1,
    };
    loopback.seen.push(seen);
    if (loopback.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, loopback.delayMs));
    const fault = loopback.fault(seen);
    if (fault === "before") return void response.destroy();
    if (typeof fault === "number") return void response.writeHead(fault).end(`{"error":"injected ${fault}"}`);
    try {
      const answer = answerTo(seen);
      if (fault === "after") return void response.destroy();
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
    } catch (error) {
      const { status, code } = error instanceof Refusal ? error : new Refusal(500, String(error));
      if (status === 400 || status === 500) loopback.violations.push(`${seen.method} ${seen.path}: ${code} ${text}`);
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify({ error_code: code }));
    }
  }

  function answerTo(request: SeenRequest): unknown {
    const { method, path, headers } = request;
    if (method === "POST" && headers["content-type"] !== "application/json") throw new Refusal(400, "content-type");
    if (path.startsWith("/api/rest/v2/")) {
      if (headers.authorization !== KEYS.comet) throw new Refusal(401, "unauthorized");
      return comet(`${method} ${path.slice("/api/rest/v2/".length)}`, request);
    }
    if (path.startsWith("/api/2.0/mlflow/")) {
      if (headers.authorization !== `Bearer ${KEYS.mlflow}`) throw new Refusal(401, "unauthorized");
      return mlflow(`${method} ${path.slice("/api/2.0/mlflow/".length)}`, request);
    }
    const expected = `Basic ${Buffer.from(`api:${KEYS.wandb}`).toString("base64")}`;
    if (headers.authorization !== expected) throw new Refusal(401, "unauthorized");
    return wandb(`${method} ${path}`, request);
  }

  function newRun(id: string, name: string, project: string): RemoteRun {
    const run: RemoteRun = {
      name,
      project,
      points: [],
      parameters: new Map(),
      texts: new Map(),
      status: "RUNNING",
      lines: new Map(),
    };
    runs.set(id, run);
    return run;
  }

  function comet(call: string, { body, query }: SeenRequest): unknown {
    const text = (key: string) =>
      requireThat<string>(body[key], (value) => typeof value === "string" && value !== "", key);
    const run = () => runOf(String(body.experimentKey ?? query.get("experimentKey")));
    switch (call) {
      case "POST write/experiment/create": {
        const id = `comet${runs.size}`;
        newRun(id, text("experimentName"), `${text("workspaceName")}/${text("projectName")}`);
        return { experimentKey: id, link: `${endpoint}/link/${id}` };
      }
      case "POST write/experiment/metric": {
        requireThat(body.timestamp, Number.isSafeInteger, "timestamp");
        requireThat(body.epoch, Number.isFinite, "epoch");
        const step = requireThat<number>(body.step, Number.isSafeInteger, "step");
        run().points.push([text("metricName"), step, requireThat<number>(body.metricValue, Number.isFinite, "value")]);
        return { msg: "saved", code: 200 };
      }
      case "POST write/experiment/parameter":
        run().parameters.set(text("parameterName"), text("parameterValue"));
        return { msg: "saved", code: 200 };
      case "POST write/experiment/log-other":
        run().texts.set(text("key"), text("value"));
        return { msg: "saved", code: 200 };
      case "GET experiment/metrics/get-metric": {
        const points = run().points.filter(([name]) => name === query.get("metricName"));
        if (points.length === 0) throw new Refusal(404, "no such metric");
        return { metrics: points.map(([, step, value]) => ({ metricValue: String(value), step })) };
      }
      default:
        throw new Refusal(400, "no such call");
    }
  }

  function mlflow(call: string, { body, query }: SeenRequest): unknown {
    const items = (key: string, most: number): Json[] => {
      const found = (body[key] ?? []) as Json[];
      requireThat(found, (list) => Array.isArray(list) && list.length <= most, key);
      return found;
    };
    switch (call) {
      case "GET experiments/get-by-name": {
        const id = experiments.get(query.get("experiment_name") ?? "");
        if (id === undefined) throw new Refusal(404, "RESOURCE_DOES_NOT_EXIST");
        return { experiment: { experiment_id: id } };
      }
      case "POST experiments/create": {
        const name = requireThat<string>(body.name, (value) => typeof value === "string", "name");
        if (experiments.has(name)) throw new Refusal(400, "RESOURCE_ALREADY_EXISTS");
        experiments.set(name, `${experiments.size + 1}`);
        return { experiment_id: experiments.get(name) };
      }
      case "POST runs/create": {
        requireThat(body.start_time, Number.isSafeInteger, "start_time");
        const id = `mlflow${runs.size}`;
        const project = [...experiments].find(([, experiment]) => experiment === body.experiment_id)?.[0];
        newRun(
          id,
          String(body.run_name),
          requireThat<string>(project, (value) => value !== undefined, "experiment_id"),
        );
        for (const { key, value } of items("tags", 100)) if (key === "dpo_train.token") tokens.set(String(value), id);
        return { run: { info: { run_id: id } } };
      }
      case "POST runs/search": {
        const token = /^tags\.`dpo_train\.token` = '(\w+)'$/.exec(String(body.filter))?.[1];
        const id = tokens.get(requireThat<string>(token, (value) => value !== undefined, "filter"));
        return id === undefined ? {} : { runs: [{ info: { run_id: id } }] };
      }
      case "POST runs/log-batch": {
        const run = runOf(String(body.run_id));
        for (const { key, value, step, timestamp } of items("metrics", 1000)) {
          requireThat(timestamp, Number.isSafeInteger, "timestamp");
          requireThat(step, Number.isSafeInteger, "step");
          run.points.push([String(key), Number(step), requireThat<number>(value, Number.isFinite, "value")]);
        }
        for (const { key, value } of items("params", 100)) {
          const before = run.parameters.get(String(key));
          if (before !== undefined && before !== value) throw new Refusal(400, "INVALID_PARAMETER_VALUE");
          run.parameters.set(String(key), requireThat<string>(value, isShortText(500), "param"));
        }
        for (const { key, value } of items("tags", 100)) {
          run.texts.set(String(key), requireThat<string>(value, isShortText(5000), "tag"));
        }
        return {};
      }
      case "GET metrics/get-history": {
        // Two to a page, and 64-bit numbers as texts, as protocol buffers have them.
        const points = runOf(query.get("run_id") ?? "").points.filter(([name]) => name === query.get("metric_key"));
        const from = Number(query.get("page_token") ?? 0);
        const metrics = points.slice(from, from + 2).map(([key, step, value]) => ({ key, value, step: String(step) }));
        return from + 2 < points.length ? { metrics, next_page_token: String(from + 2) } : { metrics };
      }
      case "POST runs/update":
        requireThat(body.end_time, Number.isSafeInteger, "end_time");
        runOf(String(body.run_id)).status = String(body.status);
        return {};
      default:
        throw new Refusal(400, "no such call");
    }
  }

  function wandb(call: string, { body }: SeenRequest): unknown {
    if (call === "POST /graphql") {
      requireThat(
        body.query,
        (query) => /^mutation UpsertBucket\(.*upsertBucket\(input:/s.test(String(query)),
        "query",
      );
      const { name, project, entity, displayName, config } = body.variables as Record<string, string | null>;
      const id = requireThat<string>(name, (value) => typeof value === "string" && value !== "", "name");
      const run = runs.get(id) ?? newRun(id, displayName ?? "", `${entity ?? "me"}/${project}`);
      for (const [key, { value }] of Object.entries(JSON.parse(config ?? "{}") as Record<string, { value: unknown }>)) {
        run.parameters.set(key, typeof value === "string" ? value : JSON.stringify(value));
      }
      const bucket = { id: "internal", name: id, project: { name: project, entity: { name: entity ?? "me" } } };
      return { data: { upsertBucket: { bucket, inserted: true } } };
    }
    const id = /^POST \/files\/me\/[^/]+\/(\w+)\/file_stream$/.exec(call)?.[1];
    if (id === undefined) throw new Refusal(400, "no such call");
    const run = runOf(id);
    const files = (body.files ?? {}) as Record<string, { offset: number; content: string[] }>;
    for (const [name, { offset, content }] of Object.entries(files)) {
      if (name === "wandb-history.jsonl") {
        requireThat(offset, (at) => (at as number) <= run.lines.size, "offset leaves a gap");
        for (const [i, line] of content.entries()) run.lines.set(offset + i, JSON.parse(line) as Json);
      } else if (name === "wandb-summary.json") {
        for (const [key, value] of Object.entries(JSON.parse(content[0]!) as Json)) run.texts.set(key, String(value));
      } else throw new Refusal(400, "file");
    }
    if (body.complete === true) run.status = `exit ${body.exitcode}`;
    run.points.length = 0;
    for (const [place, { _step, _timestamp, _runtime, ...row }] of run.lines) {
      requireThat(_step, (step) => step === place, "_step");
      requireThat(_timestamp, Number.isFinite, "_timestamp");
      requireThat(_runtime, Number.isFinite, "_runtime");
      const { "train/global_step": step, ...values } = row as Record<string, number>;
      for (const [name, value] of Object.entries(values)) run.points.push([name, step!, value]);
    }
    return {};
  }

  function runOf(id: string): RemoteRun {
    const run = runs.get(id);
    if (!run) throw new Refusal(404, "RESOURCE_DOES_NOT_EXIST");
    return run;
  }

  return Object.assign(loopback, {
    endpoint,
    close,
    environment: {
      COMET_API_KEY: KEYS.comet,
      COMET_WORKSPACE: "team",
      COMET_URL_OVERRIDE: `${endpoint}/clientlib/`,
      WANDB_API_KEY: KEYS.wandb,
      WANDB_BASE_URL: endpoint,
      MLFLOW_TRACKING_URI: endpoint,
      MLFLOW_TRACKING_TOKEN: KEYS.mlflow,
    },
  });
}

function isShortText(most: number) {
  return (value: unknown) => typeof value === "string" && Buffer.byteLength(value) <= most;
}

function requireThat<T>(value: unknown, check: (value: unknown) => boolean, what: string): T {
  if (!check(value)) throw new Refusal(400, what);
  return value as T;
}
