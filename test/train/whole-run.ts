import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, vi } from "vitest";
import type { Config } from "../../src/config/schema.ts";
import type { Precision } from "../../src/platform/load-base.ts";
import { run } from "../../src/train/run.ts";
import { TEST_DEVICE } from "../device.ts";
import { type GoldenTensor, type LogRecord, readAdapter, readTensors } from "../golden/read.ts";
import { rootPath } from "../model/golden-model.ts";

/** A run that is done, as the files it left tell it. */
export interface WholeRun {
  /** The output folder. */
  readonly folder: string;
  /** The text of metrics.jsonl, and its records. */
  readonly metrics: string;
  readonly log: readonly LogRecord[];
  readonly facts: RunFacts;
  readonly adapterBytes: Buffer;
  /** By PEFT's names. */
  readonly adapter: ReadonlyMap<string, GoldenTensor & { readonly data: Float32Array }>;
}

/** What tests read of run.json. */
export interface RunFacts {
  readonly status: string;
  readonly precision: Precision;
  readonly reference: "computed" | "cache";
  readonly schedule: { readonly total_steps: number; readonly max_tokens_per_batch: number };
  readonly adapter_sha256: string;
}

/** The reference's log-probabilities as a run keeps them: of all train pairs, then of all evaluation pairs. */
export interface KeptReference {
  readonly chosen: Float64Array;
  readonly rejected: Float64Array;
}

/** A folder that is there as long as the tests of this file run. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "dpo-train-runs-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** What every run here leaves out: the merged model. */
export const NO_MERGE = "export.merged_16bit=false";

/**
 * Trains with a config, all checks of the GPU layer on, and reads the results from a new folder inside of `folder`.
 * The config's own output_dir is not used.
 *
 * @param cacheFolder where the reference is kept, if the config keeps it
 */
export async function trainWhole(
  folder: string,
  config: Config,
  cacheFolder = folder,
  precision: Precision = "f32",
): Promise<WholeRun> {
  const output = mkdtempSync(join(folder, "run-"));
  process.chdir(rootPath(".")); // The paths in a config are relative to the working directory.
  vi.stubEnv("XDG_CACHE_HOME", cacheFolder);
  try {
    const request = { config: { ...config, output_dir: output }, device: TEST_DEVICE, dryRun: false };
    const silent = { line: () => {}, status: () => {}, progress: () => {} };
    await run({ ...request, profile: "safe", precision }, silent);
  } finally {
    vi.unstubAllEnvs();
  }
  const metrics = readFileSync(join(output, "metrics.jsonl"), "utf8");
  return {
    folder: output,
    metrics,
    log: metrics
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as LogRecord),
    facts: JSON.parse(readFileSync(join(output, "run.json"), "utf8")) as RunFacts,
    adapterBytes: readFileSync(join(output, "adapter", "adapter_model.safetensors")),
    adapter: readAdapter(join(output, "adapter")),
  };
}

/** What the only run that had this cache folder kept of its reference. */
export function readKeptReference(cacheFolder: string): KeptReference {
  const folder = join(cacheFolder, "dpo-train", "reference");
  const files = readdirSync(folder);
  if (files.length !== 1) throw new Error(`${folder} must hold one file, found ${files.length}`);
  const tensors = readTensors(join(folder, files[0]!));
  const side = (name: string) => tensors.get(name)!.data as Float64Array;
  return { chosen: side("chosen"), rejected: side("rejected") };
}
