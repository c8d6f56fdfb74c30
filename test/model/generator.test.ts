import { describe, expect, it, onTestFinished } from "vitest";
import { pack } from "../../src/data/pack.ts";
import { DeviceError } from "../../src/errors.ts";
import type { BaseWeights } from "../../src/model/base-weights.ts";
import { Generator, type GeneratorOptions } from "../../src/model/generator.ts";
import { PairModel } from "../../src/model/pair-model.ts";
import { scorePairs } from "../../src/train/scores.ts";
import { useDevice } from "../device.ts";
import { type GreedyAnswer, greedyAnswers, greedyLogits } from "../golden/greedy.ts";
import { absoluteError } from "../numbers.ts";
import { loadAdapter, loadModel } from "./golden-model.ts";
import { unpacked } from "./tiny-model.ts";

const device = useDevice();
/** Too small for f16-one-kv's head (333 × 40 f32) and gqa-llama3's MLP in one part, and for a chunk of 128 rows. */
const small = useDevice({ bindingLimitBytes: 64 * 88 * 4 });

/** Absolute. Twin-tiny's logits reach 11; transformers in f32 loses as much in a whole forward pass as we do, some 1e-5. */
const LOGIT_TOLERANCE = 3e-5;

const { cases } = greedyAnswers();
const models = [...new Set(cases.map(({ name }) => name))].map((name): [string, GreedyAnswer[]] => [
  name,
  cases.filter((answer) => answer.name === name),
]);
const [mha, gqa, , twin] = models.map(([, answers]) => answers[0]!.model) as [string, string, string, string];

function createGenerator(options: GeneratorOptions): Generator {
  const generator = new Generator(options);
  onTestFinished(() => generator.destroy());
  return generator;
}

function likeliest(logits: Float32Array): number {
  return logits.indexOf(Math.max(...logits));
}

function logSoftmax(logits: Float32Array): Float64Array {
  const largest = Math.max(...logits);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - largest), 0);
  return Float64Array.from(logits, (logit) => logit - largest - Math.log(sum));
}

/** The most likely token, `count` times. */
async function greedy(generator: Generator, promptIds: readonly number[], count: number): Promise<number[]> {
  generator.reset();
  const tokens: number[] = [];
  let next = [...promptIds];
  while (tokens.length < count) {
    const token = likeliest(await generator.append(next));
    tokens.push(token);
    next = [token];
  }
  return tokens;
}

describe("greedy tokens are transformers'", () => {
  it.each(models)("%s", async (_, answers) => {
    const { gpu } = device;
    const weights = await loadModel(gpu, answers[0]!.model);
    for (const adapterFolder of new Set(answers.map(({ adapter }) => adapter))) {
      const own = answers.filter(({ adapter }) => adapter === adapterFolder);
      const adapter = await loadAdapter(gpu, weights, adapterFolder);
      // The longest prompts take several chunks of 128, the last one cut short.
      const longest = Math.max(...own.map(({ prompt_ids, new_tokens }) => prompt_ids.length + new_tokens.length));
      const generator = createGenerator({ gpu, weights, adapter, maxPositions: longest });
      for (const { prompt_ids: promptIds, new_tokens: expected } of own) {
        expect(await greedy(generator, promptIds, expected.length)).toEqual(expected);
      }

      const [first] = own;
      const logits = greedyLogits(first!.name, adapterFolder);
      generator.reset();
      const step1 = await generator.append(first!.prompt_ids);
      const step2 = await generator.append([first!.new_tokens[0]!]);
      expect(absoluteError(step1, logits.subarray(0, step1.length))).toBeLessThan(LOGIT_TOLERANCE);
      expect(absoluteError(step2, logits.subarray(step1.length))).toBeLessThan(LOGIT_TOLERANCE);
    }
  });
});

describe("the cache", () => {
  it.each([
    { model: mha, adapterFolder: "test/golden/runs/mha-tied-uneven/final_adapter" },
    { model: gqa, adapterFolder: "test/golden/runs/gqa-llama3-long/final_adapter" },
  ])("gives the log-probabilities of a whole forward pass: $model", async ({ model, adapterFolder }) => {
    const { gpu } = device;
    const weights = await loadModel(gpu, model);
    const adapter = (await loadAdapter(gpu, weights, adapterFolder))!;
    const ids = Array.from({ length: 41 }, (_, i) => (i * i * 7 + 11 * i) % weights.config.vocabSize);
    const [promptIds, answerIds] = [ids.slice(0, 13), ids.slice(13)];
    const pairModel = new PairModel({ gpu, weights, adapter, gradients: null, maxTokens: 64, maxPositions: 64 });
    await gpu.pipelines.ready();
    const batch = pack([{ promptIds, chosenIds: answerIds, rejectedIds: [0] }], [0]);

    for (const who of ["policy", "reference"] as const) {
      const [score] = scorePairs(batch, await pairModel.score(batch, who), weights.config.vocabSize);
      const generator = createGenerator({
        gpu,
        weights,
        adapter: who === "policy" ? adapter : null,
        maxPositions: 40,
        prefillTokens: 5,
      });
      const logps: number[] = [];
      let logits = await generator.append(promptIds);
      for (const [i, id] of answerIds.entries()) {
        logps.push(logSoftmax(logits)[id]!);
        if (i + 1 < answerIds.length) logits = await generator.append([id]);
      }
      expect(generator.length).toBe(generator.maxPositions);
      expect(absoluteError(logps, score!.chosen.tokenLogps)).toBeLessThan(2e-5);
    }
  });

  it("does not depend on how the text is cut into chunks", async () => {
    const { gpu } = device;
    const weights = await loadModel(gpu, mha);
    const ids = Array.from({ length: 23 }, (_, i) => (i * 37) % 401);
    const whole = createGenerator({ gpu, weights, adapter: null, maxPositions: 23 });
    const expected = await whole.append(ids);
    for (const prefillTokens of [1, 2, 11, 22, 1000]) {
      const cut = createGenerator({ gpu, weights, adapter: null, maxPositions: 23, prefillTokens });
      expect(absoluteError(await cut.append(ids), expected)).toBeLessThan(1e-5);
      cut.reset();
      await cut.append(ids.slice(0, 9));
      expect(absoluteError(await cut.append(ids.slice(9)), expected)).toBeLessThan(1e-5);
    }
  });

  it("begins anew after reset, bit for bit, whatever it held before", async () => {
    const { gpu } = device;
    const weights = await loadModel(gpu, gqa);
    const generator = createGenerator({ gpu, weights, adapter: null, maxPositions: 30 });
    const first = await generator.append([480, 5, 6, 7]);
    const second = await generator.append([8]);
    await generator.append(Array.from({ length: 25 }, (_, i) => i + 100));
    generator.reset();
    expect(generator.length).toBe(0);
    expect(await generator.append([480, 5, 6, 7])).toEqual(first);
    expect(await generator.append([8])).toEqual(second);
  });

  it("is filled exactly, and refuses one token more", async () => {
    const { gpu } = device;
    const weights = await loadModel(gpu, mha);
    const generator = createGenerator({ gpu, weights, adapter: null, maxPositions: 6 });
    await generator.append([1, 2, 3, 4, 5, 6]);
    await expect(generator.append([7])).rejects.toThrow("internal: 1 tokens after 6 in a cache for 6");
    generator.reset();
    await expect(generator.append([1, 2, 3, 4, 5, 6, 7])).rejects.toThrow("internal: 7 tokens after 0");
    await expect(generator.append([])).rejects.toThrow("internal: no tokens");
  });

  it("for a single position answers a single token", async () => {
    const { gpu } = device;
    const weights = await loadModel(gpu, mha);
    const one = createGenerator({ gpu, weights, adapter: null, maxPositions: 1 });
    const more = createGenerator({ gpu, weights, adapter: null, maxPositions: 2 });
    expect(await one.append([17])).toEqual(await more.append([17]));
  });
});

describe("bindings below the adapter's limit", () => {
  it.each(models.filter(([name]) => name !== "twin-tiny"))("%s answers as without", async (_, answers) => {
    const { gpu } = small;
    const weights = await loadModel(gpu, answers[0]!.model);
    const projections = Object.values(weights.layers[0]!.projections).map(unpacked);
    const parts = [weights.head, ...projections].map((weight) => weight.parts.length);
    expect(Math.max(...parts)).toBeGreaterThan(1);
    const adapted = answers.find(({ adapter, prompt_template: template }) => adapter !== null && template === "none")!;
    const adapter = await loadAdapter(gpu, weights, adapted.adapter);
    const { prompt_ids: promptIds, new_tokens: expected } = adapted;
    const generator = createGenerator({ gpu, weights, adapter, maxPositions: 60 });
    expect(await greedy(generator, promptIds, expected.length)).toEqual(expected);
  });

  it("refuse a cache that cannot be bound, in words", async () => {
    const { gpu } = small;
    const weights = await loadModel(gpu, gqa);
    const { liveBytes } = gpu.memory;
    const options = { gpu, weights, adapter: null, maxPositions: 1000 };
    expect(() => new Generator(options)).toThrow(DeviceError);
    expect(() => new Generator(options)).toThrow(/^a text of 1000 tokens needs 128000 bytes .* allows 22528 .*shorter/);
    expect(gpu.memory.liveBytes).toBe(liveBytes);
  });
});

describe("memory", () => {
  it("is all given back, and that of the cache is as stated", async () => {
    const { gpu } = device;
    const weights: BaseWeights = await loadModel(gpu, twin);
    const { layers, keyValueHeads, headDim } = weights.config;
    gpu.releaseStaging();
    const before = gpu.memory.liveBytes;
    const [short, long] = [8, 1032].map(
      (maxPositions) => new Generator({ gpu, weights, adapter: null, maxPositions, prefillTokens: 8 }),
    );
    expect(gpu.memory.liveBytes - before).toBe(short!.sizeBytes + long!.sizeBytes);
    const ropeBytes = headDim * 4;
    expect((long!.sizeBytes - short!.sizeBytes) / 1024).toBe(8 * layers * keyValueHeads * headDim + ropeBytes);
    await long!.append([1, 2, 3]);
    for (const generator of [short!, long!]) generator.destroy();
    expect(gpu.memory.liveBytes).toBe(before);
    await expect(long!.append([4])).rejects.toThrow("internal: a generator was used after it was destroyed");
  });
});
