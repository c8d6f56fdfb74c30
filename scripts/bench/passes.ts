import { fileURLToPath } from "node:url";
import { loadConfig } from "../../src/config/load.ts";
import type { Config } from "../../src/config/schema.ts";
import { type PairTokens, packedTokens } from "../../src/data/pack.ts";
import { readPreferenceRows } from "../../src/data/rows.ts";
import { tokenizeRows } from "../../src/data/tokenize.ts";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { createLoraGradients, uploadAdapter } from "../../src/model/lora.ts";
import { PairModel } from "../../src/model/pair-model.ts";
import { loadBaseWeights } from "../../src/platform/load-base.ts";
import { createOptimizer } from "../../src/train/optimizer.ts";
import { computeReference, scoreAll } from "../../src/train/reference.ts";
import { objectiveOf, optimizerSettingsOf } from "../../src/train/settings.ts";
import { startAdapter } from "../../src/train/start-adapter.ts";
import { accumulateGradients } from "../../src/train/step.ts";
import { type ModelFolder, openModelFolder } from "../../src/weights/model-folder.ts";
import { median } from "./measure.ts";

// The whole of a training step and of a scoring pass, as `dpo-train --config configs/twin-tiny.yaml` runs them.

const SAMPLES = 3;

export interface Example {
  readonly config: Config;
  readonly folder: ModelFolder;
  /** The pairs of the first optimizer step. */
  readonly pairs: readonly PairTokens[];
}

/** The example that ships with the project. The caller closes its folder. */
export async function openExample(): Promise<Example> {
  const root = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
  const { config } = loadConfig(root("configs/twin-tiny.yaml"));
  const folder = await openModelFolder(root(config.model));
  const count = config.per_device_train_batch_size * config.gradient_accumulation_steps;
  const rows = await readPreferenceRows(root(config.dataset), { maxRows: count });
  const tokenizer = await loadTokenizer(root(config.model));
  const { pairs } = tokenizeRows(rows, tokenizer, {
    promptTemplate: config.prompt_template,
    maxLength: config.max_length,
  });
  return { config, folder, pairs };
}

export interface PassResult {
  readonly pass: string;
  readonly pairs: number;
  /** Prompts counted once, as they are computed. */
  readonly packedTokens: number;
  /** Prompts counted with either answer, as trainers without packing compute and count them. */
  readonly unpackedTokens: number;
  readonly ms: number;
}

export async function measurePasses(gpu: Gpu, { config, folder, pairs }: Example): Promise<PassResult[]> {
  const objective = objectiveOf(config);
  const { weights } = await loadBaseWeights(gpu, folder, "f32");
  const adapter = uploadAdapter(gpu, folder.config, (await startAdapter(config, folder.config)).adapter);
  const gradients = createLoraGradients(gpu, folder.config, adapter.settings);
  const maxTokens = Math.max(2048, ...pairs.map(packedTokens)); // As a run without --device-memory.
  const model = new PairModel({ gpu, weights, adapter, gradients, maxTokens, maxPositions: config.max_length });
  const optimizer = createOptimizer(gpu, adapter.layers, gradients, optimizerSettingsOf(config));
  await gpu.pipelines.ready();

  const references = await computeReference(model, pairs);
  const training = pairs.map((pair, i) => ({ ...pair, reference: references[i]!, place: `pair ${i}` }));
  const microBatches = Array.from({ length: config.gradient_accumulation_steps }, (_, batch) =>
    Array.from(
      { length: config.per_device_train_batch_size },
      (_, i) => batch * config.per_device_train_batch_size + i,
    ),
  );
  let step = 0;
  const trainingStep = async () => {
    await accumulateGradients(model, training, microBatches, objective);
    await optimizer.update(++step, 1e-6);
    await gpu.idle();
  };
  const sizes = {
    pairs: pairs.length,
    packedTokens: pairs.reduce((sum, pair) => sum + packedTokens(pair), 0),
    unpackedTokens: pairs.reduce((sum, { promptIds, chosenIds, rejectedIds }) => {
      return sum + 2 * promptIds.length + chosenIds.length + rejectedIds.length;
    }, 0),
  };
  return [
    { pass: "training step: forward, backward, update", ...sizes, ms: await medianOf(trainingStep) },
    { pass: "scoring: forward, policy", ...sizes, ms: await medianOf(() => scoreAll(model, pairs, "policy")) },
    { pass: "scoring: forward, reference", ...sizes, ms: await medianOf(() => scoreAll(model, pairs, "reference")) },
  ];
}

async function medianOf(pass: () => Promise<unknown>): Promise<number> {
  await pass();
  const perPass: number[] = [];
  for (let i = 0; i < SAMPLES; i++) {
    const startMs = performance.now();
    await pass();
    perPass.push(performance.now() - startMs);
  }
  return median(perPass);
}
