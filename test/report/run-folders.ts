import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { RunFiles } from "../../src/report/run-files.ts";
import type { RunRecord } from "../../src/train/records.ts";
import { temporaryFolder } from "../weights/fixtures.ts";
import { fakeRun } from "./sweeps.ts";

/** run.json as a run leaves it that is done, as far as the pages read it. */
export const RUN = {
  status: "done",
  versions: { "dpo-train": "0.1.0", node: "v20.20.2", webgpu: "0.6.2", platform: "linux-x64" },
  device: { name: "a GPU", vendor: "nobody", architecture: "none" },
  precision: "f16",
  model: { reference: "user/model", parameters: 8.03e9, size_bytes: 16.06e9 },
  data: {
    train: {
      rows: { read: 100, kept: 98, dropped: 2, firstDropped: null },
      maxLength: 256,
      cut: { chosen: 1, rejected: 0 },
      lengths: { prompt: { min: 3, median: 10, p90: 20, p99: 30, max: 31, total: 1000 } },
      equalAnswers: { rows: 0, first: null },
      duplicatePairs: { rows: 0, first: null },
      bos: { missing: { rows: 0, first: null }, repeated: { rows: 0, first: null } },
      chosenLongerShare: 0.6,
      firstPair: { place: "data.jsonl:1", prompt: "Why?", chosen: "Because.", rejected: "No." },
    },
    evaluation: null,
  },
  schedule: { total_steps: 40, max_tokens_per_batch: 2048 },
  timings: { load_s: 2, train_s: 61.5 },
  memory: { planned_bytes: 2e9, peak_bytes: 1.9e9 },
  speed: { seconds_per_step: 1.5, pairs_per_second: 10.7, tokens_per_second: 2345 },
  samples: { before: "A first answer.", after: "A better answer." },
  merge: {
    fidelity: {
      dtype: "bfloat16",
      overall: { fidelity: 0.97, kept: 0.99, error: 0.17, update_norm: 0.7, float16: { fidelity: 0.999 } },
      projections: {
        q_proj: { fidelity: 0.97, kept: 0.99, error: 0.17, update_norm: 0.7, float16: { fidelity: 0.999 } },
      },
      advice: null,
    },
  },
};

export const CONFIG = `model: "user/model"
dataset: "data.jsonl"
beta: 0.5
loss_type: ["sigmoid"]
learning_rate: 5.0e-6
max_grad_norm: 1
lora:
  r: 16
sample_prompt: "What is a preference?"
output_dir: "runs/one"
`;

/** The lines of metrics.jsonl of a run that learns as runs do. */
export function metricsText(rate = 3, steps = 40): string {
  const { trainRecords, evalRecords } = fakeRun("", rate, {}, steps);
  const records = [...trainRecords, ...evalRecords].sort((a, b) => a.step - b.step);
  return records.map((record) => `${JSON.stringify(record)}\n`).join("");
}

/** An output folder with these files; null leaves one out. */
export async function runFolder(files: Readonly<Record<string, string | null>> = {}, name = "one"): Promise<string> {
  const folder = join(await temporaryFolder(), name);
  await mkdir(folder);
  const all = { "config.yaml": CONFIG, "run.json": JSON.stringify(RUN), "metrics.jsonl": metricsText(), ...files };
  for (const [file, text] of Object.entries(all)) if (text !== null) await writeFile(join(folder, file), text);
  return folder;
}

/** A run as it was read, with these records. */
export function readRun(train: readonly RunRecord[], rest: Partial<RunFiles> = {}): RunFiles {
  return {
    ...{
      folder: "runs/one",
      name: "one",
      configText: CONFIG,
      config: { loss_type: ["sigmoid"] },
      run: {},
      performance: [],
      problems: [],
    },
    ...{ train, evaluation: [], ...rest },
  };
}
