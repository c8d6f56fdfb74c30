import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { loadConfig } from "../../../src/config/load.ts";
import type { ResumeChoice } from "../../../src/train/checkpoint/find-checkpoint.ts";
import { run } from "../../../src/train/run.ts";
import { TEST_DEVICE } from "../../device.ts";
import { rootPath } from "../../model/golden-model.ts";

/**
 * 9 pairs in micro-batches of 2, two to a step: 3 steps an epoch, the last of which has one micro-batch of one pair. Records
 * average 2 steps, evaluations come every 5, checkpoints every 4, so that they seldom meet.
 */
const CONFIG = `model: test/golden/models/f16-one-kv
dataset: test/golden/data/plain-train.jsonl
eval_dataset: test/golden/data/plain-eval.jsonl
prompt_template: alpaca
lora: {r: 2, lora_alpha: 4, target_modules: [q_proj, down_proj]}
learning_rate: 1.0e-2
per_device_train_batch_size: 2
gradient_accumulation_steps: 2
max_steps: 11
eval_strategy: steps
eval_steps: 5
logging_steps: 2
save_steps: 4
reference_cache: false
export: {merged_16bit: false}
`;

export interface RunOptions {
  readonly settings?: readonly string[];
  readonly resume?: ResumeChoice;
  /** Stops the run, as a signal does, when it says something that contains this. */
  readonly stopAt?: string;
  /** Called with all that it says. */
  readonly onText?: (text: string) => void;
}

/** Trains to an output folder in this process. Returns all that was said, and the error it ended with. */
export async function train(
  output: string,
  { settings = [], resume, stopAt, onText }: RunOptions = {},
): Promise<{ readonly said: string; readonly error: Error | null }> {
  process.chdir(rootPath("."));
  const file = `${output}.yaml`;
  await writeFile(file, CONFIG);
  const { config } = loadConfig(file, [`output_dir=${output}`, ...settings]);
  const controller = new AbortController();
  let said = "";
  const say = (text: string) => {
    said += `${text}\n`;
    onText?.(text);
    if (stopAt !== undefined && text.includes(stopAt)) {
      controller.abort(Object.assign(new Error("stopped"), { exitCode: 130 }));
    }
  };
  const request = { config, device: TEST_DEVICE, profile: "safe", precision: "f32", resume, dryRun: false } as const;
  try {
    await run(request, { line: say, status: say, progress: say }, controller.signal);
    return { said, error: null };
  } catch (error) {
    return { said, error: error as Error };
  }
}

/** What two runs must agree in to the last byte, once they are done. */
export async function resultsOf(output: string): Promise<Record<string, string>> {
  const names = [
    "metrics.jsonl",
    "adapter/adapter_model.safetensors",
    "checkpoints/step-000011/optimizer.safetensors",
    "checkpoints/step-000011/adapter_model.safetensors",
  ];
  const texts = names.map(async (name) => [name, (await readFile(join(output, name))).toString("base64")]);
  return Object.fromEntries(await Promise.all(texts));
}
