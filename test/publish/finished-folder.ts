import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { CONFIG, metricsText, RUN, runFolder } from "../report/run-folders.ts";
import { patternBytes } from "../weights/fixtures.ts";

export const BASE = "meta-llama/Llama-3.2-1B";
export const COMMIT = "0123456789abcdef0123456789abcdef01234567";

/** run.json of a run on a model and data of the Hub. */
export const HUB_RUN = {
  ...RUN,
  model: { ...RUN.model, reference: BASE, revision: "main", commit: COMMIT },
  data: { ...RUN.data, dataset: { repository: "ada/pairs", revision: "main", commit: COMMIT } },
};

/** run.json of a run on files of this machine. */
export const LOCAL_RUN = {
  ...RUN,
  model: { ...RUN.model, reference: "/home/alice/secret-models/llama" },
  sha256: { data: { "/home/alice/secret-data/pairs.jsonl": "ab".repeat(32) } },
};

export const HUB_CONFIG = CONFIG.replace("user/model", BASE).replace("data.jsonl", "ada/pairs");

const ADAPTER_CONFIG = { base_model_name_or_path: BASE, peft_type: "LORA", r: 16 };

/** The output folder of a run that is done, with an adapter and a merged model in two shards. */
export async function finishedFolder({
  run = HUB_RUN as object,
  config = HUB_CONFIG,
  files = {} as Readonly<Record<string, string | Uint8Array>>,
  shardBytes = 3000,
  /** How quickly it learns. */
  rate = 3,
} = {}): Promise<string> {
  const folder = await runFolder({
    "run.json": JSON.stringify(run),
    "config.yaml": config,
    "metrics.jsonl": metricsText(rate),
  });
  const all: Record<string, string | Uint8Array> = {
    "adapter/adapter_config.json": JSON.stringify(ADAPTER_CONFIG, null, 2),
    "adapter/adapter_model.safetensors": patternBytes(2000),
    "merged/config.json": '{"model_type": "llama"}',
    "merged/LICENSE": "do as you like",
    "merged/tokenizer.json": "{}",
    "merged/model-00001-of-00002.safetensors": patternBytes(shardBytes),
    "merged/model-00002-of-00002.safetensors": patternBytes(shardBytes + 1),
    "merged/model.safetensors.index.json": "{}",
    "checkpoints/step-000040/optimizer.safetensors": patternBytes(10),
    ...files,
  };
  for (const [name, content] of Object.entries(all)) {
    const file = join(folder, name);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, content);
  }
  return folder;
}

export const MERGED_FILES = [
  "LICENSE",
  "README.md",
  "config.json",
  "model-00001-of-00002.safetensors",
  "model-00002-of-00002.safetensors",
  "model.safetensors.index.json",
  "tokenizer.json",
];
