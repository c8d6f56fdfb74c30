import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import type { PromptTemplate } from "../../src/config/names.ts";
import { optimizerSteps } from "../../src/data/microbatches.ts";
import { readPreferenceRows } from "../../src/data/rows.ts";
import { type TokenizedPair, tokenizeRows } from "../../src/data/tokenize.ts";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { initialLoraA } from "../../src/random/peft-init.ts";
import { type OracleExample, readAdapter, readOracle, trainRecords } from "../golden/read.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PROJECTIONS = [
  ...["q_proj", "k_proj", "v_proj", "o_proj"].map((name) => `self_attn.${name}`),
  ...["gate_proj", "up_proj", "down_proj"].map((name) => `mlp.${name}`),
];

interface RunConfig {
  model: string;
  dataset: string;
  eval_dataset?: string;
  prompt_template?: PromptTemplate;
  max_length: number;
  lora: { r: number };
  per_device_train_batch_size: number;
  gradient_accumulation_steps?: number;
  num_train_epochs: number;
  shuffle: boolean;
  seed: number;
}

const RUNS = [
  "twin-tiny",
  ...["f16-one-kv-gate", "gqa-llama3-chat", "gqa-llama3-long", "init-adapter", "mha-tied-uneven", "shuffle"].map(
    (name) => `runs/${name}`,
  ),
];

describe.each(RUNS)("%s, a run of TRL", (run) => {
  const oracle = readOracle(run);
  const config = oracle.config as unknown as RunConfig;

  async function tokenize(file: string): Promise<TokenizedPair[]> {
    const tokenizer = await loadTokenizer(join(ROOT, config.model));
    const rows = await readPreferenceRows(join(ROOT, file));
    const promptTemplate = config.prompt_template ?? "none";
    return tokenizeRows(rows, tokenizer, { promptTemplate, maxLength: config.max_length }).pairs;
  }

  /** The oracle's examples are not cut yet. */
  const cut = ({ prompt_ids: prompt, chosen_ids: chosen, rejected_ids: rejected }: OracleExample) => ({
    promptIds: prompt,
    chosenIds: chosen.slice(0, config.max_length - prompt.length),
    rejectedIds: rejected.slice(0, config.max_length - prompt.length),
  });
  const idsOf = ({ promptIds, chosenIds, rejectedIds }: TokenizedPair) => ({
    promptIds: [...promptIds],
    chosenIds: [...chosenIds],
    rejectedIds: [...rejectedIds],
  });

  test("trains and evaluates on the same tokens", async () => {
    expect((await tokenize(config.dataset)).map(idsOf)).toEqual(oracle.examples.map(cut));
    const evalPairs = config.eval_dataset === undefined ? [] : await tokenize(config.eval_dataset);
    expect(evalPairs.map(idsOf)).toEqual((oracle.eval_examples ?? []).map(cut));
  });

  test("takes the same steps in the same order", () => {
    const steps = [
      ...optimizerSteps({
        pairCount: oracle.examples.length,
        perDeviceTrainBatchSize: config.per_device_train_batch_size,
        gradientAccumulationSteps: config.gradient_accumulation_steps ?? 1,
        numTrainEpochs: config.num_train_epochs,
        shuffle: config.shuffle,
        seed: config.seed,
      }),
    ];
    expect(steps.map(({ step, epoch }) => ({ step, epoch }))).toEqual(
      trainRecords(oracle.log).map(({ step, epoch }) => ({ step, epoch })),
    );
    const fileOrder = oracle.examples.map((_, i) => i);
    const order = oracle.order ?? Array.from({ length: config.num_train_epochs }, () => fileOrder);
    expect(steps.flatMap(({ microBatches }) => microBatches.flatMap((batch) => [...batch]))).toEqual(order.flat());
  });
});

test.each(RUNS.filter((run) => run !== "runs/init-adapter"))("%s starts from the same adapter, bit for bit", (run) => {
  const config = readOracle(run).config as unknown as RunConfig;
  const adapter = readAdapter(`${run}/initial_adapter`);
  const layers = Array.from({ length: 64 }, (_, layer) => PROJECTIONS.map((name) => `model.layers.${layer}.${name}`));
  const modules = layers.flat().flatMap((name) => {
    const a = adapter.get(`base_model.model.${name}.lora_A.weight`);
    const b = adapter.get(`base_model.model.${name}.lora_B.weight`);
    return a && b ? [{ name, inFeatures: a.shape[1]!, outFeatures: b.shape[0]! }] : [];
  });
  expect(modules).toHaveLength(adapter.size / 2);
  for (const { name, values } of initialLoraA(modules, config.lora.r, config.seed)) {
    const expected = adapter.get(`base_model.model.${name}.lora_A.weight`)!.data;
    expect(new Uint32Array(values.buffer), name).toEqual(new Uint32Array(expected.buffer));
  }
});
