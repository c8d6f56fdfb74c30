import { describe, expect, it, type TestContext } from "vitest";
import type { PairTokens } from "../../src/data/pack.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import type { AttentionShape } from "../../src/ops/attention.ts";
import { f16ToNumber, numberToF16 } from "../../src/weights/half.ts";
import { useDevice } from "../device.ts";
import { firstDifference } from "../numbers.ts";
import { BATCHES, expectResults, type Inputs, pairOf, type Result, randomInputs, runBoth } from "./attention-run.ts";
import { SUBGROUP_OF_32_MATRICES_OF_16, withEmulatedMatrices } from "./emulated-matrices.ts";

// attention/tensor_forward, attention/tensor_backward_query and attention/tensor_backward_key on packed pairs, against
// "../reference/attention.ts". A device without subgroup matrices (SwiftShader) shows these tests as skipped.

const device = useDevice();

/** Relative by norm, of f16 storage with f32 sums. */
const TOLERANCE = 1e-3;

const ALL = ["o", "logsumexp", "delta", "dQ", "dK", "dV"] as const satisfies readonly Result[];

/** A prompt and answers of many blocks: rejected rows skip those of the chosen answer. And a short pair in the same block. */
const LONG = [pairOf(41, 120, 75), pairOf(3, 2, 4)];

function requireMatrices({ fragments }: Gpu, { skip }: TestContext): void {
  skip(!fragments, "the device has no subgroup matrices with f16 factors");
}

/** The inputs as f16 holds them, so that only what is computed is rounded. */
function roundedToF16({ q, k, v, dO }: Inputs): Inputs {
  const round = (values: Float32Array) => values.map((value) => f16ToNumber(numberToF16(value)));
  return { q: round(q), k: round(k), v: round(v), dO: round(dO) };
}

function run(gpu: Gpu, pairs: readonly PairTokens[], shape: AttentionShape, inputs: Inputs, workgroupBytes?: number) {
  return runBoth(gpu, pairs, shape, inputs, { workgroupBytes });
}

function rowsOf(pairs: readonly PairTokens[]): number {
  return pairs.reduce(
    (sum, pair) => sum + pair.promptIds.length + pair.chosenIds.length + pair.rejectedIds.length - 2,
    0,
  );
}

describe.each([
  { headDim: 8, heads: 3, keyValueHeads: 3 },
  { headDim: 24, heads: 6, keyValueHeads: 1 },
  { headDim: 128, heads: 4, keyValueHeads: 2 },
])("$heads heads of $headDim over $keyValueHeads", (shape) => {
  it.for(Object.entries({ ...BATCHES, long: LONG }))("%s", async ([_name, pairs], context) => {
    const { gpu } = device;
    requireMatrices(gpu, context);
    const rows = rowsOf(pairs);
    const results = await run(gpu, pairs, shape, roundedToF16(randomInputs(rows, rows, shape)));
    if (rows > 1) return expectResults(results, ALL, TOLERANCE);
    expectResults(results, ["o", "logsumexp", "delta", "dV"], TOLERANCE);
    // A query that sees one key has nothing to choose: its scores have no gradient.
    const { dQ, dK } = results.actual;
    expect(Math.max(...[...dQ, ...dK].map(Math.abs))).toBeLessThan(1e-6 * shape.headDim);
  });
});

describe("rows of any size", () => {
  const shape = { headDim: 16, heads: 4, keyValueHeads: 2 };
  const pairs = BATCHES["65 rows"];
  const inputs = roundedToF16(randomInputs(1, 65, shape));
  const times = (values: Float32Array, factor: number) =>
    values.map((value) => f16ToNumber(numberToF16(value * factor)));

  it.for([
    ["gradients of 1e-9", { dO: inputs.dO.map((value) => value * 2 ** -30) }],
    ["gradients of 1e9", { dO: inputs.dO.map((value) => value * 2 ** 30) }],
    ["values that peak at 30,000", { v: times(inputs.v, 8000) }],
    ["values that peak at 30,000, with gradients of 30,000", { v: times(inputs.v, 8000), dO: times(inputs.dO, 8000) }],
    ["values of 1e-3", { v: times(inputs.v, 1e-3) }],
    ["queries that peak at 500", { q: times(inputs.q, 128), k: times(inputs.k, 1 / 128) }],
    ["keys that peak at 30,000", { q: times(inputs.q, 1 / 8192), k: times(inputs.k, 8192) }],
  ] as const)("%s", async ([, changed], context) => {
    const { gpu } = device;
    requireMatrices(gpu, context);
    const changedInputs = { ...inputs, ...changed };
    const results = await run(gpu, pairs, shape, changedInputs);
    expectResults(results, ALL, TOLERANCE);
  });

  it("scores of 500 and more", async (context) => {
    const { gpu } = device;
    requireMatrices(gpu, context);
    // Rows of q and k along one direction: every score is 0 or ±500, exactly.
    const direction = (size: number) => (_: number, i: number) => (i % 16 === 0 ? size * (((i / 16) % 3) - 1) : 0);
    const peaked = { ...inputs, q: inputs.q.map(direction(40)), k: inputs.k.map(direction(50)) };
    const results = await run(gpu, pairs, shape, peaked);
    expect(Math.max(...results.expected.logsumexp)).toBeGreaterThan(500);
    expectResults(results, ALL, TOLERANCE);
  });
});

it("gives a pair the same bits wherever it lies in a batch", async (context) => {
  const { gpu } = device;
  requireMatrices(gpu, context);
  const shape = { headDim: 16, heads: 4, keyValueHeads: 2 };
  const [before, pair, after] = [pairOf(5, 3, 4), pairOf(21, 30, 12), pairOf(9, 1, 8)];
  const [first, rows] = [rowsOf([before!]), rowsOf([pair!])];
  const inputs = randomInputs(5, rowsOf([before!, pair!, after!]), shape);
  const ofPair = (values: Float32Array, perRow: number) => values.slice(first * perRow, (first + rows) * perRow);
  const [queries, keys] = [shape.heads * shape.headDim, shape.keyValueHeads * shape.headDim];
  const own = {
    q: ofPair(inputs.q, queries),
    k: ofPair(inputs.k, keys),
    v: ofPair(inputs.v, keys),
    // As large as the largest of the batch: the gradient's power of two is that of the whole batch.
    dO: ofPair(inputs.dO, queries).fill(8, 0, 1),
  };
  inputs.dO.set(own.dO, first * queries);
  const together = await run(gpu, [before!, pair!, after!], shape, inputs);
  const alone = await run(gpu, [pair!], shape, own);
  for (const [name, perRow] of [
    ["o", queries],
    ["dQ", queries],
    ["dK", keys],
    ["dV", keys],
  ] as const) {
    expect(firstDifference(ofPair(together.actual[name], perRow), alone.actual[name]), name).toBe(-1);
  }
});

describe("tiles", () => {
  it.for([14_000, 6_000])("that fit into %i bytes", async (workgroupBytes, context) => {
    const { gpu } = device;
    requireMatrices(gpu, context);
    const shape = { headDim: 32, heads: 4, keyValueHeads: 2 };
    const rows = rowsOf(LONG);
    const results = await run(gpu, LONG, shape, roundedToF16(randomInputs(1, rows, shape)), workgroupBytes);
    expectResults(results, ALL, TOLERANCE);
  });

  // What an NVIDIA GPU runs: two invocations for each row of scores, and heads that are not multiples of the matrices.
  it.for([40, 64, 128])("of 16 x 16 x 16 matrices and subgroups of 32, heads of %i", async (headDim, context) => {
    const { gpu } = device;
    requireMatrices(gpu, context);
    const emulated = withEmulatedMatrices(gpu, { ...gpu.fragments!, ...SUBGROUP_OF_32_MATRICES_OF_16 });
    const shape = { headDim, heads: 2, keyValueHeads: 1 };
    const rows = rowsOf(LONG);
    const results = await run(emulated, LONG, shape, roundedToF16(randomInputs(1, rows, shape)), 24_000);
    expectResults(results, ALL, TOLERANCE);
  });
});
