import { readFile } from "node:fs/promises";
import path from "node:path";
import { SETTING_KEYS, type SettingKey, settingOf } from "../config/keys.ts";
import { loadConfig } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import type { SweepRun } from "../config/sweep.ts";
import { InputError, NON_FINITE_EXIT_CODE } from "../errors.ts";
import { printable } from "../text.ts";
import { isTree, numberAt, textAt, valueAt } from "../train/json-tree.ts";
import { parseRecords, type RunRecords } from "../train/records.ts";
import { CONFIG_FILE, METRICS_FILE, RUN_FILE } from "../train/run-folder.ts";
import { writeFileAtomically } from "../weights/atomic-file.ts";
import type { RunStatus } from "./results.ts";

/** What run.json tells of a run on its way or at its end. */
export interface RunState {
  readonly status: RunStatus;
  /** Why it failed or was stopped. */
  readonly reason: string | null;
  readonly stepsDone: number;
  readonly totalSteps: number | null;
  readonly seconds: number | null;
  /** SHA-256 of each data file by its path. */
  readonly dataSha256: Readonly<Record<string, string>> | null;
}

const NOTHING_YET: RunState = {
  status: "pending",
  reason: null,
  stepsDone: 0,
  totalSteps: null,
  seconds: null,
  dataSha256: null,
};

/** Where a run stands, as its folder says. */
export async function readState(folder: string): Promise<RunState> {
  const text = await readIfThere(path.join(folder, RUN_FILE));
  if (text === null) {
    const isBegun = (await readIfThere(path.join(folder, CONFIG_FILE))) !== null;
    return isBegun ? { ...NOTHING_YET, status: "interrupted" } : NOTHING_YET;
  }
  const run = parse(text);
  const totalSteps = numberAt(run, "schedule", "total_steps");
  const timings = valueAt(run, "timings");
  const phases = Object.keys(isTree(timings) ? timings : {}).filter(
    (key) => key.endsWith("_s") && !key.endsWith("_per_s"),
  );
  const status = statusOf(run);
  const dataSha256 = valueAt(run, "sha256", "data");
  return {
    status,
    reason: textAt(run, "reason") ?? (status === "failed" ? textAt(run, "error") : null),
    stepsDone: status === "done" ? (totalSteps ?? 0) : (numberAt(run, "steps_done") ?? 0),
    totalSteps,
    seconds: phases.length > 0 ? phases.reduce((sum, key) => sum + (numberAt(timings, key) ?? 0), 0) : null,
    dataSha256: isTree(dataSha256) ? (dataSha256 as Record<string, string>) : null,
  };
}

function statusOf(run: unknown): RunStatus {
  const status = textAt(run, "status");
  switch (status) {
    case "done":
    case "stopped":
    case "paused":
    case "running":
      return status;
    case "failed":
      // Whatever else ends a run is no fault of its own, and may go well the next time.
      return numberAt(run, "exit_code") === NON_FINITE_EXIT_CODE ? "failed" : "interrupted";
    default:
      return "interrupted";
  }
}

/** Says in a run's folder that it ends where it is paused. @throws InputError where the file system refuses */
export async function markStopped(folder: string, reason: string): Promise<void> {
  const file = path.join(folder, RUN_FILE);
  const run = parse((await readIfThere(file)) ?? "");
  const stopped = { ...(isTree(run) ? run : {}), status: "stopped", reason };
  await writeFileAtomically(file, `${JSON.stringify(stopped, null, 2)}\n`);
}

/** The records of a run so far. */
export async function readRecords(folder: string): Promise<RunRecords> {
  return parseRecords((await readIfThere(path.join(folder, METRICS_FILE))) ?? "");
}

/** Settings whose value changes nothing of what a sweep compares. */
const FREE_SETTINGS: ReadonlySet<SettingKey> = new Set<SettingKey>([
  "output_dir",
  "save_steps",
  "save_total_limit",
  "gradient_checkpointing",
  "reference_cache",
  "report_to",
  "export.merged_16bit",
  "export.dtype",
  "export.max_shard_size",
  "push_to_hub.repo",
  "push_to_hub.what",
  "push_to_hub.private",
  "push_to_hub.revision",
  "push_to_hub.base_model",
]);

/** @throws InputError listing what a run that has begun was made with, where the sweep has something else */
export async function requireSameSettings({ config, name }: SweepRun): Promise<void> {
  const folder = config.output_dir;
  const file = path.join(folder, CONFIG_FILE);
  if ((await readIfThere(file)) === null) return;
  const begun = loadConfig(file).config;
  const differences = differencesOf(begun, config);
  if (differences.length === 0) return;
  throw new InputError(
    `the run ${printable(name)} of an earlier sweep in ${printable(path.dirname(folder), 1000)} had other settings: ${differences.join("; ")}; ` +
      "choose another output_dir, or remove its folder to train it anew",
  );
}

function differencesOf(begun: Config, now: Config): string[] {
  const text = (config: Config, key: SettingKey) => JSON.stringify(settingOf(config, key)) ?? "unset";
  return SETTING_KEYS.filter((key) => !FREE_SETTINGS.has(key) && text(begun, key) !== text(now, key)).map(
    (key) => `${key} was ${printable(text(begun, key))}, and is ${printable(text(now, key))}`,
  );
}

async function readIfThere(file: string): Promise<string | null> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw error;
  }
}

/** Undefined where the text is no JSON. It is written as a whole or not at all, but may have been edited. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
