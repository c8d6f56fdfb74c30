import { RefusedFailure } from "./failures.ts";
import { type Api, answerAt, requestJson, textAt } from "./requests.ts";
import { type Batch, type Remote, type RunEnd, type RunFacts, type Tracker, valuesOf } from "./tracker.ts";

export interface MlflowSettings {
  readonly endpoint: string;
  readonly authorization: string | null;
  readonly secrets: readonly string[];
  readonly experiment: string | undefined;
  readonly runName: string | undefined;
}

/** Limits of runs/log-batch, and of what older servers store. */
const MAX_METRICS = 1000;
const MAX_PARAMS = 100;
const MAX_PARAM_LENGTH = 500;
const MAX_TAG_LENGTH = 5000;
/** What is the same when it is done twice, but for metrics. */
const REPEATABLE = new Set(["/runs/search", "/runs/log-batch", "/runs/update"]);
const TOKEN_TAG = "dpo_train.token";

interface Metric {
  readonly key: string;
  readonly value: number;
  readonly timestamp: number;
  readonly step: number;
}

/**
 * MLflow's REST API 2.0 (https://mlflow.org/docs/latest/rest-api.html). A run is found again by a tag. Metrics are
 * appended, so what of a batch has arrived is read back before it is sent a second time.
 */
export function createMlflow(settings: MlflowSettings): Tracker {
  const { endpoint, authorization, secrets } = settings;
  const api: Api = {
    endpoint: `${endpoint}/api/2.0/mlflow`,
    headers: authorization === null ? {} : { authorization },
    keyVariable: "MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD,",
  };
  const post = (path: string, body: object, signal: AbortSignal) =>
    requestJson(api, { method: "POST", path, body, mayRepeat: REPEATABLE.has(path) && !("metrics" in body) }, signal);
  const get = (path: string, query: Record<string, string>, signal: AbortSignal) =>
    requestJson(api, { method: "GET", path: `${path}?${new URLSearchParams(query)}` }, signal);

  const findExperiment = async (name: string, signal: AbortSignal): Promise<string | null> => {
    try {
      const found = await get("/experiments/get-by-name", { experiment_name: name }, signal);
      return textAt(api, found, "experiment", "experiment_id");
    } catch (error) {
      if (error instanceof RefusedFailure && error.answer.includes("RESOURCE_DOES_NOT_EXIST")) return null;
      throw error;
    }
  };
  const obtainExperiment = async (name: string, signal: AbortSignal): Promise<string> => {
    const found = await findExperiment(name, signal);
    if (found !== null) return found;
    try {
      return textAt(api, await post("/experiments/create", { name }, signal), "experiment_id");
    } catch (error) {
      // Another run of a sweep was quicker.
      const other = error instanceof RefusedFailure ? await findExperiment(name, signal) : null;
      if (other === null) throw error;
      return other;
    }
  };
  const findRun = async (experiment: string, token: string, signal: AbortSignal): Promise<string | null> => {
    const body = { experiment_ids: [experiment], filter: `tags.\`${TOKEN_TAG}\` = '${token}'`, max_results: 1 };
    const { runs } = await post("/runs/search", body, signal);
    return Array.isArray(runs) && runs.length > 0 ? textAt(api, runs[0], "info", "run_id") : null;
  };
  /** Steps at which a metric has a value already. */
  const stepsOf = async (run: string, key: string, signal: AbortSignal): Promise<Set<number>> => {
    const steps = new Set<number>();
    for (let page: string | null = ""; page !== null; ) {
      const query = { run_id: run, metric_key: key, ...(page === "" ? {} : { page_token: page }) };
      const answer = await get("/metrics/get-history", query, signal);
      const metrics = Array.isArray(answer.metrics) ? answer.metrics : [];
      // Protocol buffers write 64-bit numbers as texts.
      for (const metric of metrics) steps.add(Number(answerAt(metric, "step")));
      page = typeof answer.next_page_token === "string" && answer.next_page_token ? answer.next_page_token : null;
    }
    return steps;
  };
  const withoutArrived = async (run: string, metrics: readonly Metric[], signal: AbortSignal): Promise<Metric[]> => {
    const arrived = new Map<string, Set<number>>();
    for (const key of new Set(metrics.map(({ key }) => key))) arrived.set(key, await stepsOf(run, key, signal));
    return metrics.filter(({ key, step }) => !arrived.get(key)!.has(step));
  };
  const logBatch = (remote: Remote, logged: object, signal: AbortSignal) =>
    post("/runs/log-batch", { run_id: remote.run_id, ...logged }, signal);

  return {
    name: "mlflow",
    secrets,
    create: async (run: RunFacts, token, isRepeated, signal) => {
      const experiment = await obtainExperiment(settings.experiment ?? run.project, signal);
      const found = isRepeated ? await findRun(experiment, token, signal) : null;
      const runId =
        found ??
        textAt(
          api,
          await post(
            "/runs/create",
            {
              experiment_id: experiment,
              run_name: settings.runName ?? run.name,
              start_time: Date.now(),
              tags: tagsOf({ [TOKEN_TAG]: token, "mlflow.source.name": "dpo-train", "mlflow.source.type": "LOCAL" }),
            },
            signal,
          ),
          "run",
          "info",
          "run_id",
        );
      return { experiment_id: experiment, run_id: runId };
    },
    describe: async (remote, { hyperparameters }, signal) => {
      const params = Object.entries(hyperparameters).map(([key, value]) => ({
        key,
        value: cut(String(value), MAX_PARAM_LENGTH),
      }));
      for (const part of inParts(params, MAX_PARAMS)) await logBatch(remote, { params: part }, signal);
      return remote;
    },
    send: async (remote, batch, signal) => {
      const all = metricsOf(batch);
      const metrics = batch.isRepeated ? await withoutArrived(String(remote.run_id), all, signal) : all;
      for (const part of inParts(metrics, MAX_METRICS)) await logBatch(remote, { metrics: part }, signal);
      return remote;
    },
    finish: async (remote, end, signal) => {
      const summary = Object.entries(end.summary).map(([key, value]) => [`dpo_train.${key}`, String(value)]);
      const note = noteOf(end);
      const tags = tagsOf({ ...Object.fromEntries(summary), ...(note && { "mlflow.note.content": note }) });
      for (const part of inParts(tags, MAX_PARAMS)) await logBatch(remote, { tags: part }, signal);
      await post("/runs/update", { run_id: remote.run_id, status: STATUS[end.status], end_time: Date.now() }, signal);
      return remote;
    },
    place: ({ experiment_id, run_id }) => `${endpoint}/#/experiments/${experiment_id}/runs/${run_id}`,
  };
}

const STATUS = { done: "FINISHED", stopped: "FINISHED", interrupted: "KILLED", failed: "FAILED" } as const;

function metricsOf({ records, timeMs }: Batch): Metric[] {
  return records.flatMap((record) =>
    valuesOf(record).map(([key, value]) => ({ key, value, timestamp: timeMs, step: record.step })),
  );
}

/** The texts as the run's description, which MLflow shows as Markdown: as code, so that it stays text. */
function noteOf({ texts }: RunEnd): string {
  const parts = Object.entries(texts).map(
    ([name, text]) =>
      `**${name}**\n\n${text
        .split("\n")
        .map((line) => `    ${line}`)
        .join("\n")}`,
  );
  return parts.join("\n\n");
}

function tagsOf(tags: Readonly<Record<string, string>>): { key: string; value: string }[] {
  return Object.entries(tags).map(([key, value]) => ({ key, value: cut(value, MAX_TAG_LENGTH) }));
}

/** At most so many bytes of UTF-8. */
function cut(text: string, maxBytes: number): string {
  if (Buffer.byteLength(text) <= maxBytes) return text;
  return Buffer.from(text).subarray(0, maxBytes).toString("utf8").replace(/�$/, "");
}

function inParts<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));
}
