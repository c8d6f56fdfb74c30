import { describe, expect, it } from "vitest";
import { attentionForward } from "../../src/ops/attention.ts";
import { useDevice } from "../device.ts";
import { KERNEL_TOLERANCE, seededNumbers } from "../numbers.ts";
import * as reference from "../reference/attention.ts";
import { BATCHES, expectResults, type Inputs, randomInputs, runBoth } from "./attention-run.ts";
import {
  constantMatrix,
  expectRows,
  inputMatrix,
  inputWords,
  outputMatrix,
  outputWords,
  rowCount,
  run,
} from "./harness.ts";

// attention/forward, attention/delta, attention/backward_query and attention/backward_key on packed pairs.

const device = useDevice();

describe.each([
  { headDim: 2, heads: 1, keyValueHeads: 1 },
  { headDim: 6, heads: 6, keyValueHeads: 1 },
  { headDim: 10, heads: 3, keyValueHeads: 3 },
  { headDim: 16, heads: 4, keyValueHeads: 2 },
  { headDim: 32, heads: 2, keyValueHeads: 2 },
  { headDim: 64, heads: 4, keyValueHeads: 2 },
  { headDim: 128, heads: 2, keyValueHeads: 1 },
])("$heads heads of $headDim over $keyValueHeads", (shape) => {
  it.each(Object.entries(BATCHES))("%s", async (name, pairs) => {
    const rows = Number.parseInt(name, 10);
    const results = await runBoth(device.gpu, pairs, shape, randomInputs(rows, rows, shape));
    expectResults(results, ["o", "logsumexp", "dV", "delta"], KERNEL_TOLERANCE);
    if (rows > 1) return expectResults(results, ["dQ", "dK"], KERNEL_TOLERANCE);
    // A query that sees one key has nothing to choose: its scores have no gradient, but for the rounding of do·v − δ.
    const { dQ, dK } = results.actual;
    expect(Math.max(...[...dQ, ...dK].map(Math.abs))).toBeLessThan(KERNEL_TOLERANCE * shape.headDim);
  });
});

describe("scores that peak at ±500 once scaled", () => {
  const shape = { headDim: 16, heads: 4, keyValueHeads: 2 };
  const pairs = BATCHES["65 rows"];

  /** q and k of small integers, so that every score is exact: 0 or ±500 and a little. */
  function peakedInputs(): Inputs {
    const rows = 65;
    const random = seededNumbers(9);
    const inputs = randomInputs(9, rows, shape);
    const { heads, keyValueHeads, headDim } = shape;
    const q = random.integers(rows * heads * headDim, -1, 1);
    const k = random.integers(rows * keyValueHeads * headDim, -2, 2);
    for (let at = 0; at < q.length; at += headDim) q[at] = 40 * random.integer(-1, 1);
    for (let at = 0; at < k.length; at += headDim) k[at] = 50 * random.integer(-1, 1);
    return { ...inputs, q, k };
  }

  it("are softmaxed without overflow, forward as exactly as small ones", async () => {
    const results = await runBoth(device.gpu, pairs, shape, peakedInputs());
    expect(Math.max(...results.expected.logsumexp)).toBeGreaterThan(500);
    expectResults(results, ["o", "logsumexp", "delta"], KERNEL_TOLERANCE);
    // Backward takes exp(score − logsumexp), and a logsumexp between 256 and 512 is rounded by up to 2^-16.
    expectResults(results, ["dQ", "dK", "dV"], KERNEL_TOLERANCE + 2 ** -16);
  });

  it("stay right where all of them are −500, or all +500", async () => {
    for (const sign of [-1, 1]) {
      const inputs = randomInputs(3, 65, shape);
      const direction = Float32Array.from({ length: shape.headDim }, (_, d) => (d === 0 ? 1 : 0));
      const along = (values: Float32Array, size: number) => values.map((_, i) => size * direction[i % shape.headDim]!);
      const results = await runBoth(device.gpu, pairs, shape, {
        ...inputs,
        q: along(inputs.q, 40),
        k: along(inputs.k, sign * 50),
      });
      expect(results.expected.logsumexp.every((value) => Math.abs(value - sign * 500) < 5)).toBe(true);
      expectResults(results, ["o", "logsumexp", "delta"], KERNEL_TOLERANCE);
      expectResults(results, ["dV"], KERNEL_TOLERANCE + 2 ** -16);
    }
  });
});

describe("attention/forward over a cache of keys", () => {
  it("sees the rows it is told to, prompt and own apart, more keys than queries", async () => {
    const { gpu } = device;
    const shape = { headDim: 10, heads: 3, keyValueHeads: 3 };
    const keys = 37;
    // Prompt start and end, own start and end.
    const ranges = [
      [0, 0, 0, 1],
      [0, 0, 0, keys],
      [5, 11, 30, 34],
      [2, 3, 36, 37],
    ];
    const random = seededNumbers(2);
    const cols = 30;
    const [q, k, v] = [ranges.length, keys, keys].map((rows) => random.normals(rows * cols)) as [
      Float32Array,
      Float32Array,
      Float32Array,
    ];
    const count = rowCount(gpu, ranges.length);
    const o = outputMatrix(gpu, count, cols, "kept");
    const stats = outputWords(gpu, count, 2 * shape.heads);
    const commands = attentionForward(gpu, {
      count,
      shape,
      visible: inputWords(gpu, Uint32Array.from(ranges.flat())),
      q: inputMatrix(gpu, count, q, cols),
      k: constantMatrix(gpu, k, keys, cols),
      v: constantMatrix(gpu, v, keys, cols),
      o,
      stats: stats.range,
    });

    const [bits] = await run(gpu, commands, [o, stats]);

    const sees: reference.Sees = (t, j) => {
      const [prefixStart, prefixEnd, ownStart, ownEnd] = ranges[t]!;
      return (j >= prefixStart! && j < prefixEnd!) || (j >= ownStart! && j < ownEnd!);
    };
    const expected = reference.attentionForward(q, k, v, { queries: ranges.length, keys, ...shape }, sees);
    expectRows(bits!, o, expected.o);
  });
});
