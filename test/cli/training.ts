import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { TEST_DEVICE } from "../device.ts";
import { temporaryFolder } from "../weights/fixtures.ts";
import { dpoTrain, type Ended, type ProcessOptions } from "./process.ts";

/** Three steps of three pairs and an evaluation, about a second. Paths are from the repository's root. */
export const MODEL = "test/golden/models/f16-one-kv";
export const ROWS = "test/golden/data/plain-train.jsonl";
const CONFIG = `model: ${MODEL}
dataset: ${ROWS}
eval_dataset: test/golden/data/plain-eval.jsonl
prompt_template: alpaca
lora: {r: 2, lora_alpha: 4, target_modules: [q_proj, down_proj]}
learning_rate: 1.0e-2
per_device_train_batch_size: 3
num_train_epochs: 1
`;

export interface Training {
  /** Goes away when the test ends. */
  readonly folder: string;
  /** The config file in it, and the output folder that it names. */
  readonly config: string;
  readonly output: string;
}

/** Writes a config. Nothing but the output folder is written by its run. */
export async function prepareTraining(more = ""): Promise<Training> {
  const folder = await temporaryFolder();
  const [config, output] = [join(folder, "train.yaml"), join(folder, "run")];
  await writeFile(config, `${CONFIG}reference_cache: false\noutput_dir: ${output}\n${more}`);
  return { folder, config, output };
}

/** Options of the command line for settings: `--set KEY=VALUE` for each. */
export function set(settings: Readonly<Record<string, string | number | boolean>>): string[] {
  return Object.entries(settings).flatMap(([key, value]) => ["--set", `${key}=${value}`]);
}

export function train({ config }: Training, args: readonly string[] = [], options?: ProcessOptions): Promise<Ended> {
  return dpoTrain(["--device", TEST_DEVICE, "--config", config, ...args], options);
}
