import { describe, expect, it } from "vitest";
import { type PairTokens, pack } from "../../src/data/pack.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { type AttentionShape, attentionBackward, attentionForward } from "../../src/ops/attention.ts";
import { useDevice } from "../device.ts";
import { KERNEL_TOLERANCE, relativeError, seededNumbers } from "../numbers.ts";
import * as reference from "../reference/attention.ts";
import { packedRows, packedSees } from "../reference/sequences.ts";
import {
  constantMatrix,
  denseRows,
  denseWords,
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

/** A pair of these lengths. Its tokens do not matter here. */
function pairOf(promptLength: number, chosenLength: number, rejectedLength: number): PairTokens {
  return {
    promptIds: new Array(promptLength).fill(1),
    chosenIds: new Array(chosenLength).fill(2),
    rejectedIds: new Array(rejectedLength).fill(3),
  };
}

/** Packed pairs of 1, 7, 65 and 130 rows: prompts of one token, answers of one token and so without a row, many pairs. */
const BATCHES = {
  "1 row": [pairOf(1, 1, 1)],
  "7 rows": [pairOf(3, 4, 2)],
  "65 rows": [pairOf(1, 5, 9), pairOf(20, 1, 1), pairOf(7, 1, 12), pairOf(6, 9, 1)],
  "130 rows": [pairOf(90, 21, 12), ...Array.from({ length: 9 }, () => pairOf(1, 1, 1))],
};

interface Inputs {
  readonly q: Float32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly dO: Float32Array;
}

function randomInputs(seed: number, rows: number, { heads, keyValueHeads, headDim }: AttentionShape): Inputs {
  const random = seededNumbers(seed);
  const [queries, keys] = [rows * heads * headDim, rows * keyValueHeads * headDim];
  return {
    q: random.normals(queries),
    k: random.normals(keys),
    v: random.normals(keys),
    dO: random.normals(queries),
  };
}

/** Forward and backward over packed pairs on the GPU and in float64. */
async function runBoth(gpu: Gpu, pairs: readonly PairTokens[], shape: AttentionShape, inputs: Inputs) {
  const batch = pack(pairs, [...pairs.keys()]);
  const rows = batch.tokens.length;
  const { heads, keyValueHeads, headDim } = shape;
  const [queryCols, keyCols] = [heads * headDim, keyValueHeads * headDim];
  const count = rowCount(gpu, rows);
  const [o, dQ] = [outputMatrix(gpu, count, queryCols, "kept"), outputMatrix(gpu, count, queryCols, "kept")];
  const [dK, dV] = [outputMatrix(gpu, count, keyCols, "kept"), outputMatrix(gpu, count, keyCols, "kept")];
  const stats = outputWords(gpu, count, heads * 2);
  const forward = {
    count,
    shape,
    visible: inputWords(gpu, batch.visible),
    q: inputMatrix(gpu, count, inputs.q, queryCols),
    k: inputMatrix(gpu, count, inputs.k, keyCols),
    v: inputMatrix(gpu, count, inputs.v, keyCols),
    o,
    stats: stats.range,
  };
  const commands = [
    ...attentionForward(gpu, forward),
    ...attentionBackward(gpu, {
      ...forward,
      queryEnd: inputWords(gpu, batch.queryEnd),
      dO: inputMatrix(gpu, count, inputs.dO, queryCols),
      dQ,
      dK,
      dV,
    }),
  ];
  const [oBits, statsBits, dQBits, dKBits, dVBits] = await run(gpu, commands, [o, stats, dQ, dK, dV]);
  const statValues = denseWords(statsBits!, stats, count, heads * 2);

  const sizes = { queries: rows, keys: rows, ...shape };
  const packed = packedRows(pairs);
  const sees: reference.Sees = (t, j) => packedSees(packed[t]!, packed[j]!);
  const expected = reference.attentionForward(inputs.q, inputs.k, inputs.v, sizes, sees);
  const gradients = reference.attentionBackward(inputs.q, inputs.k, inputs.v, expected.p, inputs.dO, sizes);
  return {
    actual: {
      o: denseRows(oBits!, o),
      logsumexp: statValues.filter((_, i) => i % 2 === 0),
      delta: statValues.filter((_, i) => i % 2 === 1),
      dQ: denseRows(dQBits!, dQ),
      dK: denseRows(dKBits!, dK),
      dV: denseRows(dVBits!, dV),
    },
    expected: { o: expected.o, logsumexp: expected.logsumexp, ...gradients },
  };
}

type Result = keyof Awaited<ReturnType<typeof runBoth>>["actual"];

function expectResults(
  { actual, expected }: Awaited<ReturnType<typeof runBoth>>,
  names: readonly Result[],
  tolerance: number,
): void {
  for (const name of names) expect(relativeError(actual[name], expected[name]), name).toBeLessThan(tolerance);
}

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
