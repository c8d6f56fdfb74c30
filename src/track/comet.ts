import pLimit from "p-limit";
import { RefusedFailure } from "./failures.ts";
import { type Api, answerAt, requestJson, textAt } from "./requests.ts";
import { type Batch, groupedName, type Remote, type Scalar, type Tracker, valuesOf } from "./tracker.ts";

export interface CometSettings {
  readonly endpoint: string;
  readonly key: string;
  readonly workspace: string;
  readonly project: string | undefined;
  readonly runName: string | undefined;
}

interface Metric {
  readonly metricName: string;
  readonly metricValue: number;
  readonly step: number;
  readonly epoch: number | undefined;
  readonly timestamp: number;
}

/** Values go one to a request. */
const PARALLEL_REQUESTS = 6;

/**
 * Comet's REST API v2 (https://www.comet.com/docs/v2/api-and-sdk/rest-api/write-endpoints/). Values are appended and
 * nothing names them, so what of a batch has arrived is read back before it is sent a second time. Exactly once cannot
 * be had where Comet shows a value later than it takes it: then there are two equal points at one step, which draw one
 * line. Nor can an experiment be found again whose key was lost on its way to us: it stays behind, without points.
 */
export function createComet(settings: CometSettings): Tracker {
  const { endpoint, key } = settings;
  const api: Api = {
    endpoint: `${endpoint}/api/rest/v2`,
    headers: { authorization: key },
    keyVariable: "COMET_API_KEY",
  };
  const post = (path: string, body: object, signal: AbortSignal) => {
    // Parameters and "others" have names, and are overwritten.
    const mayRepeat = path === "parameter" || path === "log-other";
    return requestJson(api, { method: "POST", path: `/write/experiment/${path}`, body, mayRepeat }, signal);
  };
  /** Ends with the first failure only when no other request is on its way any more. */
  const postAll = async (path: string, { experimentKey }: Remote, bodies: readonly object[], signal: AbortSignal) => {
    const limit = pLimit(PARALLEL_REQUESTS);
    let failure: unknown = null;
    const postOne = async (body: object) => {
      if (failure !== null) return;
      try {
        await post(path, { experimentKey, ...body }, signal);
      } catch (error) {
        failure = error;
      }
    };
    await Promise.all(bodies.map((body) => limit(postOne, body)));
    if (failure !== null) throw failure;
  };
  const stepsOf = async ({ experimentKey }: Remote, metricName: string, signal: AbortSignal): Promise<Set<number>> => {
    const query = new URLSearchParams({ experimentKey: String(experimentKey), metricName });
    const request = { method: "GET", path: `/experiment/metrics/get-metric?${query}` } as const;
    try {
      const { metrics } = await requestJson(api, request, signal);
      return new Set(Array.isArray(metrics) ? metrics.map((metric) => Number(answerAt(metric, "step"))) : []);
    } catch (error) {
      // There is no such metric before its first value.
      if (error instanceof RefusedFailure && (error.status === 400 || error.status === 404)) return new Set();
      throw error;
    }
  };
  const withoutArrived = async (remote: Remote, metrics: readonly Metric[], signal: AbortSignal) => {
    const arrived = new Map<string, Set<number>>();
    const names = new Set(metrics.map(({ metricName }) => metricName));
    for (const name of names) arrived.set(name, await stepsOf(remote, name, signal));
    return metrics.filter(({ metricName, step }) => !arrived.get(metricName)!.has(step));
  };

  return {
    name: "comet_ml",
    secrets: [key],
    create: async (run, _token, _isRepeated, signal) => {
      const { workspace, project = run.project, runName = run.name } = settings;
      const body = { workspaceName: workspace, projectName: project, experimentName: runName };
      const made = await post("create", body, signal);
      const { link } = made;
      return {
        experimentKey: textAt(api, made, "experimentKey"),
        link: typeof link === "string" ? link : `${endpoint}/${workspace}/${project}`,
      };
    },
    describe: async (remote, { hyperparameters }, signal) => {
      await postAll("parameter", remote, inPairs(hyperparameters, "parameterName", "parameterValue"), signal);
      return remote;
    },
    send: async (remote, batch, signal) => {
      const all = metricsOf(batch);
      await postAll("metric", remote, batch.isRepeated ? await withoutArrived(remote, all, signal) : all, signal);
      return remote;
    },
    finish: async (remote, { status, summary, texts }, signal) => {
      await postAll("log-other", remote, inPairs({ status, ...summary, ...texts }, "key", "value"), signal);
      return remote;
    },
    place: ({ link }) => String(link),
  };
}

function metricsOf({ records, timeMs }: Batch): Metric[] {
  return records.flatMap((record) =>
    valuesOf(record).map(([key, metricValue]) => ({
      metricName: groupedName(key),
      metricValue,
      step: record.step,
      epoch: record.epoch ?? undefined,
      timestamp: timeMs,
    })),
  );
}

function inPairs(values: Readonly<Record<string, Scalar>>, nameKey: string, valueKey: string): object[] {
  return Object.entries(values).map(([name, value]) => ({ [nameKey]: name, [valueKey]: String(value) }));
}
