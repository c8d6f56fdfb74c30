import { access, constants, readdir, rm } from "node:fs/promises";
import path from "node:path";
import { ExpectedError, InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { TEMPORARY_SUFFIX, writeFileAtomically } from "../weights/atomic-file.ts";
import { makeFolder } from "../weights/make-folder.ts";
import { fileError } from "../weights/regular-file.ts";
import { CHECKPOINTS_FOLDER, removeTemporaries } from "./checkpoint/folders.ts";
import { GrowingFile, readUpTo } from "./growing-file.ts";
import type { LogRecord } from "./loop.ts";
import type { PerformanceRecord } from "./performance.ts";

export const CONFIG_FILE = "config.yaml";
export const RUN_FILE = "run.json";
export const METRICS_FILE = "metrics.jsonl";
/** Speed and memory over the steps: what depends on the machine and the moment, which metrics.jsonl does not. */
export const PERFORMANCE_FILE = "performance.jsonl";
/** The page that shows the run. */
export const REPORT_FILE = "report.html";
/** What has been sent to trackers. */
export const TRACKING_FOLDER = "tracking";
/** Event files for TensorBoard. */
export const TENSORBOARD_FOLDER = "tensorboard";

/** Of the process that writes into the folder: see folder-lock.ts. */
export const LOCK_FILE = ".dpo-train.lock";

function isOfLock(name: string): boolean {
  return name === LOCK_FILE || name.startsWith(`${LOCK_FILE}.`);
}

/**
 * Refuses a folder that holds anything: another run's results must not be mixed with this one's, nor lost. And one that
 * cannot be written, before hours are spent on what should go there.
 * @throws InputError
 */
export async function requireFreshFolder(folder: string): Promise<void> {
  const names = await requireWritableFolder(folder);
  if (names.length === 0) return;
  if (names.includes(CHECKPOINTS_FOLDER)) {
    throw new InputError(
      `output_dir ${printable(folder)} holds the checkpoints of a run: continue it with --resume, choose another with --set output_dir=FOLDER, or remove it`,
    );
  }
  throw new InputError(
    `output_dir ${printable(folder)} must be empty or not exist, found ${printable(names.sort().slice(0, 5).join(", "))}; ` +
      "choose another with --set output_dir=FOLDER, or remove it",
  );
}

/**
 * Refuses a folder that holds anything but what a run leaves that was ended before its first checkpoint.
 * @throws InputError
 */
export async function requireOwnFolder(folder: string): Promise<void> {
  const files = [CONFIG_FILE, RUN_FILE, METRICS_FILE, PERFORMANCE_FILE, REPORT_FILE];
  const own = [...files, CHECKPOINTS_FOLDER, TRACKING_FOLDER, TENSORBOARD_FOLDER];
  const names = (await readdir(folder).catch(() => [] as string[])).filter((name) => !isOfLock(name));
  const complete = names.filter((name) => !name.endsWith(TEMPORARY_SUFFIX));
  // The config is the first file that a run writes.
  const isOwn = complete.includes(CONFIG_FILE) && complete.every((name) => own.includes(name));
  if (names.length > 0 && (isOwn || complete.length === 0)) return requireWritable(folder);
  await requireFreshFolder(folder);
}

/**
 * Refuses what is no folder, or can be none, or cannot be written.
 * @returns the names in it, but for the lock's
 * @throws InputError
 */
export async function requireWritableFolder(folder: string): Promise<string[]> {
  let names: string[] = [];
  try {
    names = await readdir(folder);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOTDIR") {
      throw new InputError(
        `output_dir ${printable(folder)} must be a folder, found a file; choose another with --set output_dir=FOLDER`,
      );
    }
    if (code !== "ENOENT") throw fileError(folder, "read", error);
  }
  await requireWritable(folder);
  return names.filter((name) => !isOfLock(name));
}

/** Asks the nearest folder on the path that is there. */
async function requireWritable(folder: string): Promise<void> {
  for (let existing = path.resolve(folder); ; existing = path.dirname(existing)) {
    try {
      return await access(existing, constants.W_OK);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT" && existing !== path.dirname(existing)) continue;
      throw new InputError(
        `output_dir ${printable(folder)}: ${fileError(existing, "write", error).message}; choose another with --set output_dir=FOLDER`,
        { cause: error },
      );
    }
  }
}

/** What is kept of a run that is continued. */
export interface RecordsBefore {
  /** Its metrics.jsonl as the checkpoint has it. */
  readonly metrics: string | Uint8Array;
  /** Of the checkpoint. */
  readonly step: number;
}

/** Owns the files of a run that grow or are rewritten while it trains. */
export class RunFolder {
  readonly path: string;
  /** Where its checkpoints are, and its records. */
  readonly checkpoints: string;
  readonly metricsFile: string;
  readonly #metrics: GrowingFile;
  readonly #performance: GrowingFile;

  /**
   * Makes the folder with config.yaml, metrics.jsonl and performance.jsonl in it. Where a run was interrupted, what it had
   * begun to write is removed.
   *
   * @param before of a run that is continued: its records up to the checkpoint, and the checkpoint's step
   * @throws InputError where the file system refuses
   */
  static async create(
    folder: string,
    configYaml: string,
    before: RecordsBefore = { metrics: "", step: 0 },
  ): Promise<RunFolder> {
    await makeFolder(path.resolve(folder));
    await removeTemporaries(folder);
    await removeTemporaries(path.join(folder, CHECKPOINTS_FOLDER));
    await removeTemporaries(path.join(folder, TRACKING_FOLDER));
    await rm(path.join(folder, "merged"), { recursive: true, force: true }); // Never over another one: as `merge` has it.
    await writeFileAtomically(path.join(folder, CONFIG_FILE), configYaml);
    const performance = path.join(folder, PERFORMANCE_FILE);
    const measured = before.step === 0 ? "" : await readUpTo(performance, before.step);
    return new RunFolder(
      folder,
      await GrowingFile.create(path.join(folder, METRICS_FILE), before.metrics),
      await GrowingFile.create(performance, measured),
    );
  }

  private constructor(folder: string, metrics: GrowingFile, performance: GrowingFile) {
    this.path = folder;
    this.checkpoints = path.join(folder, CHECKPOINTS_FOLDER);
    this.metricsFile = metrics.path;
    this.#metrics = metrics;
    this.#performance = performance;
  }

  /** Appends a record to metrics.jsonl. @throws InputError where the file system refuses */
  async record(record: LogRecord): Promise<void> {
    await this.#metrics.append(record);
  }

  /** Appends a record to performance.jsonl. @throws InputError where the file system refuses */
  async recordPerformance(record: PerformanceRecord): Promise<void> {
    await this.#performance.append(record);
  }

  /** Writes a file anew. */
  async write(name: string, text: string): Promise<void> {
    await writeFileAtomically(path.join(this.path, name), text);
  }

  /** Writes run.json anew. */
  async describe(run: object): Promise<void> {
    await this.write(RUN_FILE, `${JSON.stringify(run, null, 2)}\n`);
  }

  /** Says in run.json that the run ended early, and why. */
  async describeEnd(run: object, stepsDone: number, error: unknown): Promise<void> {
    const isInterrupted = error instanceof ExpectedError && error.exitCode >= 128;
    const message = error instanceof Error ? error.message : String(error);
    try {
      await this.describe({
        ...run,
        status: isInterrupted ? "interrupted" : "failed",
        steps_done: stepsDone,
        error: message,
        exit_code: error instanceof ExpectedError ? error.exitCode : 1,
      });
    } catch (failure) {
      // The disk may be full: then the error at hand says so.
      if (!(failure instanceof InputError)) throw failure;
    }
  }

  /** The names in the folder, in order. @throws InputError where it is gone */
  async list(): Promise<string[]> {
    try {
      return (await readdir(this.path)).filter((name) => !isOfLock(name)).sort();
    } catch (error) {
      throw fileError(this.path, "read", error);
    }
  }

  /** Removes what a run writes before its first step, of one that has come no further: the folder is free for the next. */
  async discard(): Promise<void> {
    await this.close();
    for (const name of [CONFIG_FILE, RUN_FILE, METRICS_FILE, PERFORMANCE_FILE]) {
      await rm(path.join(this.path, name), { force: true });
    }
  }

  /** May be called again. */
  async close(): Promise<void> {
    await this.#metrics.close();
    await this.#performance.close();
  }
}
