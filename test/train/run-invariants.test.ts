import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import type { Config } from "../../src/config/schema.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { tensorRanges } from "../../src/model/base-weights.ts";
import type * as LoadBase from "../../src/platform/load-base.ts";
import { evalRecords, goldenPath, type OracleExample, readAdapter, readOracle, trainRecords } from "../golden/read.ts";
import { absoluteError, firstDifference, relativeError } from "../numbers.ts";
import { divergences, float64Policy, k3Terms } from "./float64-run.ts";
import { closeSharedDevice } from "./shared-device.ts";
import { loggedSteps } from "./trl-comparison.ts";
import { NO_MERGE, temporaryFolder, trainWhole, type WholeRun } from "./whole-run.ts";

// What holds for whole runs, whatever TRL does.

vi.mock("../../src/platform/dawn.ts", () => import("./shared-device.ts"));
vi.mock("../../src/platform/load-base.ts", async (importOriginal) => {
  const original = await importOriginal<typeof LoadBase>();
  const loadBaseWeights: typeof original.loadBaseWeights = async (gpu, ...rest) => {
    const base = await original.loadBaseWeights(gpu, ...rest);
    lastBase = { gpu, base, bytes: await readBase(gpu, base) };
    return base;
  };
  return { ...original, loadBaseWeights };
});

/** The base weights of the last run, and what its buffers held before training. */
let lastBase: { readonly gpu: Gpu; readonly base: LoadBase.LoadedBase; readonly bytes: readonly ArrayBuffer[] };

function readBase(gpu: Gpu, { weights }: LoadBase.LoadedBase): Promise<ArrayBuffer[]> {
  return gpu.read(...[...weights.tensors.values()].flatMap(tensorRanges));
}

const folder = temporaryFolder();
const UNEVEN = "runs/mha-tied-uneven";
const { examples, eval_examples: evalExamples = [], log: trlLog } = readOracle(UNEVEN);

/** The config of a golden run but for what `set` says. */
function goldenConfig(golden: string, ...set: string[]): Config {
  return loadConfig(goldenPath(`${golden}/config.yaml`), [NO_MERGE, ...set]).config;
}

function train(golden: string, ...set: string[]): Promise<WholeRun> {
  return trainWhole(folder, goldenConfig(golden, "reference_cache=false", ...set));
}

const MAX_LENGTH = goldenConfig(UNEVEN).max_length;

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

describe("how an optimizer step is computed does not change it", () => {
  /** Of f32 when the same terms are added in another order. */
  const ROUNDING = 2e-6;
  let whole: WholeRun;
  beforeAll(async () => {
    whole = await train(UNEVEN, "per_device_train_batch_size=8", "gradient_accumulation_steps=1");
  });

  it("in one micro-batch of 8 pairs or 8 of one", async () => {
    const single = await train(UNEVEN, "per_device_train_batch_size=1", "gradient_accumulation_steps=8");
    // Others are means over the tokens of a micro-batch, or count micro-batches.
    const ofPairs = /^(step|loss|grad_norm|learning_rate|num_tokens|(rewards|logps)\/.*)$/;
    expectSameNumbers(single, whole, (name) => name.startsWith("eval_") || ofPairs.test(name));
  });

  it("with many pairs in a GPU batch or hardly more than one", async () => {
    const rows = ({ prompt_ids: { length: prompt }, chosen_ids: chosen, rejected_ids: rejected }: OracleExample) => {
      const cut = (length: number) => Math.min(length, MAX_LENGTH - prompt);
      return prompt + cut(chosen.length) + cut(rejected.length) - 2;
    };
    const longest = Math.max(...[...examples, ...evalExamples].map(rows));
    const sizes = ["per_device_train_batch_size=8", "gradient_accumulation_steps=1"];
    const small = await train(UNEVEN, ...sizes, `max_tokens_per_batch=${longest}`);
    expect(small.facts.schedule.max_tokens_per_batch).toBe(longest);
    expect(whole.facts.schedule.max_tokens_per_batch).toBeGreaterThan(8 * longest);
    expectSameNumbers(small, whole, () => true);
  });

  function expectSameNumbers(actual: WholeRun, expected: WholeRun, isCompared: (name: string) => boolean): void {
    expect(actual.log.length).toBe(expected.log.length);
    for (const [i, record] of expected.log.entries()) {
      for (const [name, value] of Object.entries(record)) {
        if (!isCompared(name)) continue;
        const difference = Math.abs(actual.log[i]![name]! - value);
        expect(difference, `${name} at step ${record.step}`).toBeLessThanOrEqual(
          ROUNDING * Math.max(1, Math.abs(value)),
        );
      }
    }
    for (const [name, { data }] of expected.adapter) {
      expect(relativeError(actual.adapter.get(name)!.data, data), name).toBeLessThan(ROUNDING);
    }
  }
});

describe("the same run again", () => {
  let first: WholeRun;
  let second: WholeRun;
  beforeAll(async () => {
    const cacheFolder = mkdtempSync(join(folder, "cache-"));
    first = await trainWhole(folder, goldenConfig(UNEVEN), cacheFolder);
    await closeSharedDevice();
    second = await trainWhole(folder, goldenConfig(UNEVEN), cacheFolder);
  });

  it("is the same byte for byte, with the reference from the first one", () => {
    expect([first, second].map(({ facts }) => facts.reference)).toEqual(["computed", "cache"]);
    expect(second.metrics).toBe(first.metrics);
    expect(second.adapterBytes.equals(first.adapterBytes)).toBe(true);
  });

  it("as metrics.jsonl holds TRL's metrics and kl, and nothing of the clock", () => {
    const expected = loggedSteps(trlLog).map((record) => [
      ...Object.keys(record),
      "loss" in record ? "kl" : "eval_kl/chosen",
    ]);
    expect(first.log.map((record) => Object.keys(record).sort())).toEqual(expected.map((names) => names.sort()));
  });
});

describe.each([UNEVEN, "runs/gqa-llama3-chat", "runs/f16-one-kv-gate"])("the first step of %s", (golden) => {
  const rate = 0.01;
  let run: WholeRun;
  beforeAll(async () => {
    const schedule = ["lr_scheduler_type=constant", "warmup_steps=0", `learning_rate=${rate}`, "weight_decay=0"];
    run = await train(golden, ...schedule, "max_steps=1", `init_adapter=test/golden/${golden}/initial_adapter`);
  });

  it("finds the reference itself", () => {
    const [record] = trainRecords(run.log);
    expect(Math.abs(record!.loss! - Math.LN2)).toBeLessThan(1e-6);
    const zeros = ["rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "kl"];
    expect(zeros.map((name) => record![name])).toEqual(zeros.map(() => 0));
  });

  it("moves every element of every B by the rate at most, and no A", () => {
    const start = readAdapter(`${golden}/initial_adapter`);
    const isMoved = (value: number) => value !== 0 && Math.abs(value) < 1.00001 * rate;
    for (const [name, { data }] of run.adapter) {
      if (name.includes("lora_B")) expect(data.every(isMoved), name).toBe(true);
      else expect(firstDifference(data, start.get(name)!.data), name).toBe(-1);
    }
  });

  it("leaves the base as it was, bit for bit", async () => {
    const { gpu, base, bytes } = lastBase;
    const now = await readBase(gpu, base);
    const differences = now.map((part, i) => firstDifference(new Uint8Array(part), new Uint8Array(bytes[i]!)));
    expect(differences).toEqual(now.map(() => -1));
  });
});

describe("adamw_8bit", () => {
  async function withBoth(golden: string, ...set: string[]): Promise<[WholeRun, WholeRun]> {
    return [await train(golden, ...set, "optim=adamw"), await train(golden, ...set, "optim=adamw_8bit")];
  }

  it("comes near to adamw, and is not it", async () => {
    // With rank 128 both factors have at least 4096 elements, so that their moments are kept in 8 bits.
    const [bits32, bits8] = await withBoth("runs/f16-one-kv-gate", "lora.r=128", "lora.lora_alpha=128", "max_steps=4");
    for (const [name, { data }] of bits32.adapter) {
      const difference = relativeError(bits8.adapter.get(name)!.data, data);
      expect(difference, name).toBeGreaterThan(1e-4);
      expect(difference, name).toBeLessThan(3e-2);
    }
    const losses = [bits32, bits8].map(({ log }) => trainRecords(log).map((record) => record.loss!));
    expect(absoluteError(losses[1]!, losses[0]!)).toBeLessThan(1e-3);
  });

  it("is adamw but for rounding where every factor is small and nothing decays", async () => {
    const [bits32, bits8] = await withBoth(UNEVEN, "weight_decay=0");
    for (const [name, { data }] of bits32.adapter) {
      expect(relativeError(bits8.adapter.get(name)!.data, data), name).toBeLessThan(1e-5);
    }
  });
});

describe("kl", () => {
  const model = "test/golden/models/mha-tied";
  const constant = ["lr_scheduler_type=constant", "warmup_steps=0"];

  it("of a step is Schulman's estimate in float64 with the adapter of the step before", async () => {
    const [first, second] = [
      await train(UNEVEN, ...constant, "max_steps=1"),
      await train(UNEVEN, ...constant, "max_steps=2"),
    ];
    const policy = await float64Policy(model, first.folder);
    // Step 2 has two micro-batches of two pairs: the mean of each over its tokens, then of both.
    const expected = mean(
      [examples.slice(4, 6), examples.slice(6, 8)].map((pairs) =>
        mean(pairs.flatMap((example) => k3Terms(policy, example, MAX_LENGTH))),
      ),
    );
    const [, record] = trainRecords(second.log);
    expect(expected).toBeGreaterThan(1e-4);
    expect(relativeError([record!.kl!], [expected])).toBeLessThan(1e-5);
  });

  it("of an evaluation with eval_kl is the divergence over the whole vocabulary in float64", async () => {
    const run = await train(UNEVEN, ...constant, "eval_kl=true");
    const policy = await float64Policy(model, run.folder);
    const expected = meanOfBatches((example) => divergences(policy, example, MAX_LENGTH));
    const ofChosen = meanOfBatches((example) => divergences(policy, example, MAX_LENGTH, ["chosen"]));
    const last = evalRecords(run.log).at(-1)!;
    expect(last.step).toBe(6);
    expect(expected).toBeGreaterThan(1e-3);
    expect(relativeError([last.eval_kl!, last["eval_kl/chosen"]!], [expected, ofChosen])).toBeLessThan(1e-6);
  });

  it("of the chosen answers is Schulman's estimate where an evaluation measures none", async () => {
    const run = await train(UNEVEN, ...constant);
    const policy = await float64Policy(model, run.folder);
    const expected = meanOfBatches((example) => k3Terms(policy, example, MAX_LENGTH, ["chosen"]));
    const last = evalRecords(run.log).at(-1)!;
    expect(last.eval_kl).toBeUndefined();
    expect(expected).toBeGreaterThan(1e-4);
    expect(relativeError([last["eval_kl/chosen"]!], [expected])).toBeLessThan(1e-5);
  });

  /** As evaluations average: over the tokens of each batch, then over batches. */
  function meanOfBatches(tokensOf: (example: (typeof evalExamples)[number]) => number[]): number {
    const batches = [evalExamples.slice(0, 3), evalExamples.slice(3)];
    return mean(batches.map((pairs) => mean(pairs.flatMap(tokensOf))));
  }
});
