import { readFile } from "node:fs/promises";
import path from "node:path";
import { parse } from "yaml";
import { parseRecords, type RunRecord } from "../train/records.ts";
import { CONFIG_FILE, METRICS_FILE, RUN_FILE } from "../train/run-folder.ts";
import type { RunEnd, RunFacts, Scalar } from "./tracker.ts";

type Tree = Readonly<Record<string, unknown>>;

/** Of run.json: on what a run is made. */
const FACTS = ["precision", "device.name", "model.parameters", "lora.parameters", "versions.dpo-train"];
const SCHEDULE = ["schedule.total_steps", "schedule.steps_per_epoch", "schedule.warmup_steps"];
/** Of run.json: what came of it. */
const SUMMARY = /^(speed|timings|memory)\.|^(status|steps_done|reason|error|adapter_sha256)$/;

/** What config.yaml and run.json say of a run that has begun. */
export async function readRunFacts(folder: string): Promise<RunFacts> {
  const [config, run] = await Promise.all([readConfig(folder), readRun(folder)]);
  const facts = flatten(run);
  const known = [...FACTS, ...SCHEDULE].flatMap((key) =>
    facts[key] === undefined ? [] : [[key, facts[key]] as const],
  );
  const resolved = path.resolve(folder);
  return {
    folder,
    project: path.basename(path.dirname(resolved)) || "dpo-train",
    name: path.basename(resolved),
    hyperparameters: { ...flatten(config), ...Object.fromEntries(known) },
  };
}

/** What run.json and metrics.jsonl say of a run that nobody trains any more. */
export async function readRunEnd(folder: string): Promise<RunEnd> {
  const [run, config, metrics] = await Promise.all([
    readRun(folder),
    readConfig(folder),
    readFile(path.join(folder, METRICS_FILE), "utf8"),
  ]);
  const { train, evaluation } = parseRecords(metrics);
  const texts = { prompt: config.sample_prompt, ...((run.samples ?? {}) as Tree) };
  const summary = Object.entries(flatten(run)).filter(([key]) => SUMMARY.test(key));
  return {
    status: statusOf(run),
    summary: { ...Object.fromEntries(summary), ...finalValues(train), ...finalValues(evaluation) },
    texts: Object.fromEntries(
      Object.entries(texts).flatMap(([name, text]) => (typeof text === "string" ? [[`sample/${name}`, text]] : [])),
    ),
  };
}

function statusOf({ status }: Tree): RunEnd["status"] {
  if (status === "done" || status === "stopped" || status === "failed") return status;
  return "interrupted"; // Also `running`: it was killed.
}

function finalValues(records: readonly RunRecord[]): Record<string, number> {
  const entries = Object.entries(records.at(-1) ?? {}).filter((entry): entry is [string, number] => entry[1] !== null);
  return Object.fromEntries(entries.map(([key, value]) => [`final.${key}`, value]));
}

/** Leaves of a tree under dotted keys; a list is its JSON. */
function flatten(tree: Tree, prefix = ""): Record<string, Scalar> {
  const entries = Object.entries(tree).flatMap(([key, value]): [string, Scalar][] => {
    const name = `${prefix}${key}`;
    if (Array.isArray(value)) return [[name, JSON.stringify(value)]];
    if (typeof value === "object" && value !== null) return Object.entries(flatten(value as Tree, `${name}.`));
    return typeof value === "string" || typeof value === "number" || typeof value === "boolean" ? [[name, value]] : [];
  });
  return Object.fromEntries(entries);
}

async function readConfig(folder: string): Promise<Tree> {
  return asTree(parse(await readFile(path.join(folder, CONFIG_FILE), "utf8")));
}

async function readRun(folder: string): Promise<Tree> {
  return asTree(JSON.parse(await readFile(path.join(folder, RUN_FILE), "utf8")));
}

function asTree(value: unknown): Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Tree) : {};
}
