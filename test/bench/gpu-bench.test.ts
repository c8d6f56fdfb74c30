import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { readRecords, writeResults } from "../../scripts/gpu-bench/bench-folder.ts";
import { parseSample, summarizeSamples } from "../../scripts/gpu-bench/nvidia.ts";
import { answerTokens, makePairs, PAIRS_PER_STEP } from "../../scripts/gpu-bench/pairs.ts";
import { findPython, lacking } from "../../scripts/gpu-bench/python.ts";
import { formatTable, layerRate, summarize } from "../../scripts/gpu-bench/report.ts";
import { flopsOf, MODEL_SIZES, productKey, productsOf, SIZES } from "../../scripts/gpu-bench/sizes.ts";
import {
  DEVICE,
  isPending,
  keepBetter,
  outOfTime,
  type StageRecord,
  stagesOf,
} from "../../scripts/gpu-bench/stages.ts";
import { ratesOf, stepClock, stepSeconds, timedSteps } from "../../scripts/gpu-bench/train.ts";

// What scripts/gpu-bench.sh decides and writes down, without a device or another process.

const folder = mkdtempSync(path.join(tmpdir(), "gpu-bench-"));
afterAll(() => rmSync(folder, { recursive: true }));

function record(result: unknown, status: StageRecord["status"] = "done", reason: string | null = null): StageRecord {
  return { status, reason, seconds: 1, finished: "2020-01-01T00:00:00.000Z", result };
}

describe("stages", () => {
  it("come in the order of their value, the first model's kernels first", () => {
    expect(stagesOf(["8b", "1b"]).map(({ name }) => name)).toEqual([
      "device",
      ...["matmul-8b", "ceiling-8b", "cublas-8b", "kernels-8b"],
      ...["train-8b", "trl-8b", "trl-tuned-8b"],
      ...["train-1b", "trl-1b", "trl-tuned-1b"],
    ]);
  });

  it("are not begun where they cannot fit, and say how much time they need", () => {
    const [train] = stagesOf(["8b"]).filter(({ kind }) => kind === "train");
    expect(outOfTime(train!, train!.needsSeconds)).toBeNull();
    expect(outOfTime(train!, 12.9)).toBe("needs about 90 s, 12 s were left");
    expect(outOfTime(train!, -3)).toBe("needs about 90 s, 0 s were left");
  });

  it("are run again until they are done, and never lose a result to a worse one", () => {
    const partial = record([1], "partial", "stopped");
    const failed = record(null, "failed", "crashed");
    expect(isPending(DEVICE, {})).toBe(true);
    for (const pending of [partial, failed]) expect(isPending(DEVICE, { device: pending })).toBe(true);
    expect(isPending(DEVICE, { device: record({}) })).toBe(false);
    expect(keepBetter(undefined, failed)).toBe(failed);
    expect(keepBetter(partial, failed)).toBe(partial);
    expect(keepBetter(failed, partial)).toBe(partial);
    expect(keepBetter(partial, record([1, 2])).status).toBe("done");
  });
});

describe("products", () => {
  it.each(SIZES)("of %s are told apart by their keys and have sides that need no padding", (size) => {
    const products = productsOf(MODEL_SIZES[size]);
    expect(new Set(products.map(productKey)).size).toBe(products.length);
    for (const { m, n, k } of products) expect([m % 8, n % 8, k % 8]).toEqual([0, 0, 0]);
  });

  it("of 8b's layer have its parameters: 218 million", () => {
    const layer = productsOf(MODEL_SIZES["8b"]).filter(({ per_layer }) => per_layer > 0);
    expect(layer.reduce((sum, { per_layer, n, k }) => sum + per_layer * n * k, 0)).toBe(218_103_808);
  });

  it("give a layer's rate by the time they take together, and none where one is missing", () => {
    const layer = productsOf(MODEL_SIZES["8b"]).filter(({ per_layer }) => per_layer > 0);
    expect(layerRate(layer, () => 300)).toBeCloseTo(300, 9);
    // The product at a third of the speed counts by its time.
    const slow = layer[2]!;
    const share =
      (slow.per_layer * flopsOf(slow)) / layer.reduce((sum, each) => sum + each.per_layer * flopsOf(each), 0);
    expect(layerRate(layer, (product) => (product === slow ? 100 : 300))).toBeCloseTo(300 / (1 + 2 * share), 9);
    expect(layerRate(layer.slice(1), () => 300)).toBeNull();
  });
});

describe("the time of a step", () => {
  const pairs = { rows: [], tokensPerStep: { packed: 16_000, promptsTwice: 18_000 } };

  it("is taken from the lines of training steps alone", () => {
    const clock = stepClock();
    const lines = ["loading", "step 1/12  loss 0.69", "evaluation at step 1", "steps 12", "step  2/12  loss 0.68"];
    for (const [i, line] of lines.entries()) clock.onLine(line, 1000 * i);
    expect(stepSeconds(clock.ends())).toEqual([3]);
  });

  it("leaves out the first two steps and those that were profiled", () => {
    const seconds = [2, 3, 4, 5, 6, 7, 8]; // steps of these numbers
    expect(timedSteps(seconds, null)).toEqual([3, 4, 5, 6, 7, 8]);
    expect(timedSteps(seconds, [2, 4])).toEqual([5, 6, 7, 8]);
  });

  it("is the median, and null where none was timed", () => {
    expect(ratesOf([], pairs)).toBeNull();
    expect(ratesOf([5, 2, 2], pairs)).toEqual({
      step_seconds: 2,
      timed_steps: 3,
      pairs_per_second: 8,
      packed_tokens_per_second: 8000,
      tokens_per_second_prompts_twice: 9000,
    });
  });
});

describe("the pairs", () => {
  it("are about 1,000 packed tokens long, alike from step to step, and the same each time", async () => {
    const example = fileURLToPath(new URL("../../examples/twin-tiny", import.meta.url));
    const { rows, tokensPerStep } = await makePairs(example, 1);
    expect(rows.length % PAIRS_PER_STEP).toBe(0);
    expect(tokensPerStep.packed / PAIRS_PER_STEP).toBeGreaterThan(950);
    expect(tokensPerStep.packed / PAIRS_PER_STEP).toBeLessThan(1100);
    expect(tokensPerStep.promptsTwice).toBeGreaterThan(tokensPerStep.packed);
    expect((await makePairs(example, 1)).rows).toEqual(rows);
    const lengths = (first: number) => Array.from({ length: 16 }, (_, i) => answerTokens(7 * (first + i))).sort();
    expect(lengths(0)).toEqual(lengths(16));
  });
});

describe("nvidia-smi", () => {
  it("is read line by line, and lines that are none are passed over", () => {
    expect(parseSample("1, NVIDIA H200, 580.1, 2048, 1980, 412.50")).toEqual({
      ...{ index: 1, name: "NVIDIA H200", driver: "580.1" },
      ...{ usedBytes: 2 ** 31, clockMhz: 1980, powerWatts: 412.5 },
    });
    for (const line of ["", "No devices were found", "0, Card, 1.0, [N/A], 1, 1"]) expect(parseSample(line)).toBeNull();
  });

  it("says what the card took whose memory grew most", () => {
    const sample = (index: number, usedBytes: number, clockMhz: number) => {
      return { index, name: `card ${index}`, driver: "1", usedBytes, clockMhz, powerWatts: 100 };
    };
    expect(summarizeSamples([])).toBeNull();
    const samples = [sample(0, 50, 300), sample(1, 10, 300), sample(0, 60, 300), sample(1, 90, 1900)];
    expect(summarizeSamples(samples)).toEqual({
      ...{ name: "card 1", driver: "1", used_before_bytes: 10, peak_bytes: 90, clock_mhz: 1900, power_watts: 100 },
    });
  });
});

describe("Python", () => {
  it("that is not there, or lacks a package, is named", () => {
    expect(lacking(findPython(path.join(folder, "no-python")), ["torch"])).toContain("no-python does not run");
    expect(lacking({ command: "python3", version: "3", packages: { torch: "2" } }, ["torch", "trl"])).toContain(
      "no trl",
    );
    expect(lacking({ command: "python3", version: "3", packages: { torch: "2" } }, ["torch"])).toBeNull();
  });
});

describe("the results", () => {
  const rates = { timed_steps: 4, pairs_per_second: 4, packed_tokens_per_second: 4000 };
  const train = { ...rates, step_seconds: 4, tokens_per_second_prompts_twice: 4500, peak_bytes: 2 ** 34, card: null };
  const products = productsOf(MODEL_SIZES["8b"]);
  const tiles = { chosen: "128x256x32, 2x4 subgroups", candidate_ms: { "128x256x32, 2x4 subgroups": 0.9 } };
  const records = {
    device: record({ name: "Card", software: false }),
    "matmul-8b": record(
      products.map((product) => ({ ...product, tflops: 300, tflops_with_packing: 290, ms: 1, tiles })),
    ),
    "kernels-8b": record([
      { kernel: "norm/rms_forward", shape: "8192 × 4096", ms: 0.1, tflops: null, gb_per_second: 2684 },
    ]),
    "cublas-8b": record({ measured: products.map((product) => ({ ...product, tflops: 600 })) }),
    "train-8b": record({ ...train, profile: { kernels: [] } }),
    "trl-8b": record({ ...train, peer: "trl", step_seconds: 10 }, "partial", "stopped when the time was up"),
    "trl-tuned-8b": record(null, "skipped", "needs about 70 s, 3 s were left"),
  };

  it("have what was measured on top, and null with a reason for what was not", () => {
    expect(summarize(records, ["8b"])).toMatchObject({
      ...{ device: "Card", model: "8b", step_seconds: 4, trl_step_seconds: 10, trl_tuned_step_seconds: null },
      ...{
        times_faster_than_trl: 2.5,
        times_faster_than_trl_tuned: null,
        peak_bytes: 2 ** 34,
        trl_peak_bytes: 2 ** 34,
      },
      mma_ceiling_tflops: null,
      skipped: { "trl-8b": "stopped when the time was up", "trl-tuned-8b": "needs about 70 s, 3 s were left" },
    });
    const { matmul, matmul_tflops, cublas_tflops } = summarize(records, ["8b"]);
    expect([matmul_tflops, cublas_tflops]).toEqual([expect.closeTo(300, 9), expect.closeTo(600, 9)]);
    expect(matmul).toHaveLength(products.length);
    for (const product of matmul) expect(product).toMatchObject({ tflops: 300, cublas_tflops: 600, tiles });
  });

  it("are null throughout where nothing was measured", () => {
    const { models, matmul, mma_ceiling, kernels, skipped, ...numbers } = summarize({}, []);
    expect(new Set(Object.values(numbers))).toEqual(new Set([null]));
    expect([models, matmul, mma_ceiling, kernels, skipped]).toEqual([{}, [], [], [], {}]);
  });

  it("are a table, with dashes for what was not measured", () => {
    const table = formatTable(summarize(records, ["8b"]));
    expect(table).toContain("| 8b | dpo-train | 4 | 4 | 4000 | 4500 | 16 GiB | - | 2.5 | - |");
    expect(table).toContain("| 8b | trl | 10 | 4 |  | 4500 | 16 GiB | - |  |  |");
    expect(table).toContain("| 8b | trl tuned | - | - |  | - | - | - |  |  |");
    expect(table).toContain("| 8192 × 4096 × 4096 | 300 | 290 | 600 | 128x256x32, 2x4 subgroups |");
    expect(table).toContain("| `norm/rms_forward` | 8192 × 4096 | 0.1 | - | 2684 |");
    expect(table).toContain("- trl-tuned-8b: needs about 70 s, 3 s were left");
  });

  it("are gone on with in their folder, but not by another build", () => {
    expect(readRecords(folder, "abc")).toEqual({ records: {}, sizes: [] });
    writeResults(folder, records, ["8b"], { build_sha256: "abc" });
    expect(readRecords(folder, "abc")).toEqual({ records, sizes: ["8b"] });
    expect(readFileSync(path.join(folder, "table.md"), "utf8")).toContain("dpo-train");
    expect(() => readRecords(folder, "def")).toThrow("of another build");
    writeFileSync(path.join(folder, "bench.json"), "{");
    expect(() => readRecords(folder, "abc")).toThrow("is not JSON");
  });
});
