import { expect } from "vitest";
import { type PairTokens, pack, pairStarts } from "../../src/data/pack.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { type AttentionShape, attentionBackward, attentionForward } from "../../src/ops/attention.ts";
import { PeakSlots } from "../../src/ops/peak.ts";
import { setRowTiles } from "../../src/ops/row-tiles.ts";
import { ATTENTION_PEAKS, createTensorAttention } from "../../src/ops/tensor-attention.ts";
import { relativeError, seededNumbers } from "../numbers.ts";
import * as reference from "../reference/attention.ts";
import { packedRows, packedSees } from "../reference/sequences.ts";
import { denseRows, denseWords, inputMatrix, inputWords, outputMatrix, outputWords, rowCount, run } from "./harness.ts";

// Attention over packed pairs, on the GPU by either set of kernels and in float64.

/** A pair of these lengths. Its tokens do not matter here. */
export function pairOf(promptLength: number, chosenLength: number, rejectedLength: number): PairTokens {
  return {
    promptIds: new Array(promptLength).fill(1),
    chosenIds: new Array(chosenLength).fill(2),
    rejectedIds: new Array(rejectedLength).fill(3),
  };
}

/** Packed pairs of 1, 7, 65 and 130 rows: prompts of one token, answers of one token and so without a row, many pairs. */
export const BATCHES = {
  "1 row": [pairOf(1, 1, 1)],
  "7 rows": [pairOf(3, 4, 2)],
  "65 rows": [pairOf(1, 5, 9), pairOf(20, 1, 1), pairOf(7, 1, 12), pairOf(6, 9, 1)],
  "130 rows": [pairOf(90, 21, 12), ...Array.from({ length: 9 }, () => pairOf(1, 1, 1))],
};

export interface Inputs {
  readonly q: Float32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly dO: Float32Array;
}

export function randomInputs(seed: number, rows: number, { heads, keyValueHeads, headDim }: AttentionShape): Inputs {
  const random = seededNumbers(seed);
  const [queries, keys] = [rows * heads * headDim, rows * keyValueHeads * headDim];
  return {
    q: random.normals(queries),
    k: random.normals(keys),
    v: random.normals(keys),
    dO: random.normals(queries),
  };
}

/**
 * Forward and backward over packed pairs on the GPU and in float64.
 *
 * @param tensor for the kernels on subgroup matrices, with the workgroup's memory where it is to be less than the adapter's
 */
export async function runBoth(
  gpu: Gpu,
  pairs: readonly PairTokens[],
  shape: AttentionShape,
  inputs: Inputs,
  tensor: { readonly workgroupBytes?: number | undefined } | null = null,
) {
  const batch = pack(pairs, [...pairs.keys()]);
  const rows = batch.tokens.length;
  const { heads, keyValueHeads, headDim } = shape;
  const [queryCols, keyCols] = [heads * headDim, keyValueHeads * headDim];
  const count = rowCount(gpu, rows);
  const [o, dQ] = [outputMatrix(gpu, count, queryCols, "kept"), outputMatrix(gpu, count, queryCols, "kept")];
  const [dK, dV] = [outputMatrix(gpu, count, keyCols, "kept"), outputMatrix(gpu, count, keyCols, "kept")];
  const stats = outputWords(gpu, count, heads * 2);
  const peaks = tensor && new PeakSlots(gpu, ATTENTION_PEAKS);
  const tensorAttention = tensor && createTensorAttention(gpu, { ...tensor, shape, maxRows: count.max, peaks });
  expect(tensorAttention === null, "tiles of such heads fit into the workgroups").toBe(tensor === null);
  for (const tiles of tensorAttention?.rowTiles.values() ?? []) setRowTiles(gpu, tiles, pairStarts(batch));
  const forward = {
    count,
    shape,
    visible: inputWords(gpu, batch.visible),
    q: inputMatrix(gpu, count, inputs.q, queryCols),
    k: inputMatrix(gpu, count, inputs.k, keyCols),
    v: inputMatrix(gpu, count, inputs.v, keyCols),
    o,
    stats: stats.range,
    tensor: tensorAttention,
  };
  const commands = [
    ...(peaks ? [peaks.clear] : []),
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

export type Result = keyof Awaited<ReturnType<typeof runBoth>>["actual"];

export function expectResults(
  { actual, expected }: Awaited<ReturnType<typeof runBoth>>,
  names: readonly Result[],
  tolerance: number,
): void {
  for (const name of names) expect(relativeError(actual[name], expected[name]), name).toBeLessThan(tolerance);
}
