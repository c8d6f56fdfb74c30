import { printable } from "../text.ts";
import { RefusedFailure } from "./failures.ts";
import { type Api, answerAt, requestJson, textAt } from "./requests.ts";
import { type Batch, groupedName, type Remote, type RunFacts, type Tracker, valuesOf } from "./tracker.ts";

export interface WandbSettings {
  readonly endpoint: string;
  readonly key: string;
  readonly project: string | undefined;
  readonly entity: string | undefined;
  readonly runName: string | undefined;
}

const UPSERT = `mutation UpsertBucket($name: String, $project: String, $entity: String, $displayName: String, $config: JSONString) {
  upsertBucket(input: {name: $name, modelName: $project, entityName: $entity, displayName: $displayName, config: $config}) {
    bucket { id name project { name entity { name } } }
    inserted
  }
}`;

/** As the transformers integration has it: every metric is drawn over the trainer's step. */
const STEP_METRIC = "train/global_step";
const METRIC_DEFINITIONS = [
  { "1": STEP_METRIC, "6": [3] },
  { "2": "*", "5": 1, "6": [1] },
];

/**
 * The protocol of W&B's own client: GraphQL for the run, and file_stream for its history, a file of lines that are
 * addressed by their place. So a line that arrives twice is the same line. The run's id is ours, so that a run which
 * was made without our hearing of it is the same run.
 */
export function createWandb(settings: WandbSettings): Tracker {
  const { endpoint, key } = settings;
  const credentials = Buffer.from(`api:${key}`).toString("base64");
  const api: Api = {
    endpoint,
    headers: { authorization: `Basic ${credentials}` },
    keyVariable: "WANDB_API_KEY",
  };
  const upsert = async (variables: object, signal: AbortSignal) => {
    const body = { operationName: "UpsertBucket", query: UPSERT, variables };
    const answer = await requestJson(api, { method: "POST", path: "/graphql", body }, signal);
    const { errors } = answer;
    if (Array.isArray(errors) && errors.length > 0) {
      throw new RefusedFailure(
        `${new URL(endpoint).origin} refused: ${printable(String(answerAt(errors[0], "message")))}`,
      );
    }
    return answerAt(answer, "data", "upsertBucket", "bucket");
  };
  const stream = ({ entity, project, id }: Remote, body: object, signal: AbortSignal) => {
    const run = [entity, project, id].map((part) => encodeURIComponent(String(part))).join("/");
    return requestJson(api, { method: "POST", path: `/files/${run}/file_stream`, body }, signal);
  };

  return {
    name: "wandb",
    secrets: [key, credentials],
    create: async (run, token, _, signal) => {
      const bucket = await upsert(
        {
          name: token,
          project: settings.project ?? projectName(run),
          entity: settings.entity ?? null,
          displayName: settings.runName ?? run.name,
        },
        signal,
      );
      return {
        id: textAt(api, bucket, "name"),
        project: textAt(api, bucket, "project", "name"),
        entity: textAt(api, bucket, "project", "entity", "name"),
        started_ms: Date.now(),
      };
    },
    describe: async (remote, { hyperparameters }, signal) => {
      const config = Object.entries(hyperparameters).map(([name, value]) => [name, { value }]);
      const definitions = ["_wandb", { value: { m: METRIC_DEFINITIONS } }];
      const text = JSON.stringify(Object.fromEntries([...config, definitions]));
      const { id, project, entity } = remote;
      await upsert({ name: id, project, entity, config: text }, signal);
      return remote;
    },
    send: async (remote, batch, signal) => {
      const content = historyOf(batch, Number(remote.started_ms));
      await stream(remote, { files: { "wandb-history.jsonl": { offset: batch.first, content } } }, signal);
      return remote;
    },
    finish: async (remote, { status, summary, texts }, signal) => {
      const content = [JSON.stringify({ ...summary, ...texts })];
      await stream(remote, { files: { "wandb-summary.json": { offset: 0, content } } }, signal);
      const exitcode = status === "done" || status === "stopped" ? 0 : 1;
      await stream(remote, { complete: true, exitcode, dropped: 0, uploaded: [] }, signal);
      return remote;
    },
    place: ({ entity, project, id }) => {
      const site = endpoint.replace(/^https:\/\/api\./, "https://");
      return [site, entity, project, "runs", id].join("/");
    },
  };
}

/** What W&B does not take in a project's name: / \ # ? % : */
function projectName({ project }: RunFacts): string {
  return project.replaceAll(/[/\\#?%:\p{Cc}]/gu, "-").slice(0, 128);
}

/** `_step` counts lines: W&B wants it to rise, and an evaluation has the step of the record before it. */
function historyOf({ first, records, timeMs }: Batch, startedMs: number): string[] {
  return records.map((record, i) =>
    JSON.stringify({
      _step: first + i,
      _timestamp: timeMs / 1000,
      _runtime: Math.max(0, (timeMs - startedMs) / 1000),
      [STEP_METRIC]: record.step,
      ...Object.fromEntries(valuesOf(record).map(([key, value]) => [groupedName(key), value])),
    }),
  );
}
