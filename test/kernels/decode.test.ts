import { describe, expect, it } from "vitest";
import { RowCount } from "../../src/gpu/count.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { attentionForward } from "../../src/ops/attention.ts";
import { matmulNT } from "../../src/ops/matmul.ts";
import { useDevice } from "../device.ts";
import { KERNEL_TOLERANCE, type Numbers, relativeError, roundedToBf16, seededNumbers } from "../numbers.ts";
import * as referenceAttention from "../reference/attention.ts";
import * as reference from "../reference/matmul.ts";
import {
  asFloats,
  constantMatrix,
  denseRows,
  expectRows,
  inputMatrix,
  inputWeight,
  inputWords,
  outputMatrix,
  outputWords,
  run,
} from "./harness.ts";

const device = useDevice();
/** One part holds at most 64 rows of a (·, 65) weight in f32, 128 in bf16. */
const small = useDevice({ bindingLimitBytes: 64 * 72 * 4 });

/** A count that can only be one row: what chooses these kernels. */
function oneRow(gpu: Gpu): RowCount {
  const count = new RowCount(gpu, "one row", 1);
  count.set(1);
  return count;
}

describe("matmul/vector", () => {
  const cases = [
    { k: 1, n: 1, format: "bf16", rank: 0, scale: 1, residual: false },
    { k: 7, n: 9, format: "f32", rank: 1, scale: 0.5, residual: true },
    { k: 33, n: 20, format: "bf16", rank: 3, scale: 1, residual: true },
    { k: 65, n: 130, format: "bf16", rank: 17, scale: 1, residual: true },
    { k: 130, n: 65, format: "f32", rank: 0, scale: 1.5, residual: false },
    { k: 700, n: 33, format: "bf16", rank: 70, scale: 1, residual: false },
    { k: 3, n: 140_001, format: "bf16", rank: 0, scale: 1, residual: false }, // More workgroups than a dimension may have.
  ] as const;
  it.each(cases)("$k → $n, $format, rank $rank, scale $scale, residual $residual", async (linear) => {
    const { k, n, format, rank, scale } = linear;
    const { gpu } = device;
    const random = seededNumbers(k);
    const [x, u, b, r] = [k, rank, n * rank, n].map((length) => random.normals(length));
    const exact = random.normals(n * k);
    const weights = format === "bf16" ? roundedToBf16(exact) : exact;
    const count = oneRow(gpu);
    const y = outputMatrix(gpu, count, n);
    const commands = matmulNT(gpu, {
      count,
      x: inputMatrix(gpu, count, x!, k),
      w: inputWeight(gpu, format, weights, n, k),
      y,
      scale,
      lora: rank > 0 ? { u: inputMatrix(gpu, count, u!, rank), b: constantMatrix(gpu, b!, n, rank) } : undefined,
      residual: linear.residual ? inputMatrix(gpu, count, r!, n) : undefined,
    });
    expect(commands.map((command) => "label" in command && command.label)).toEqual(["matmul/vector"]);

    const [bits] = await run(gpu, commands, [y]);

    let expected: Numbers = reference.matmulNT(x!, weights, { m: 1, n, k }).map((value) => scale * value);
    if (rank > 0) expected = reference.addScaled(expected, reference.matmulNT(u!, b!, { m: 1, n, k: rank }));
    if (linear.residual) expected = reference.addScaled(expected, r!);
    expectRows(bits!, y, expected);
  });

  it.each(["bf16", "f32"] as const)("gives the same bits for a %s weight in parts", async (format) => {
    const [k, n, rank] = [65, 130, 3];
    const random = seededNumbers(5);
    const [x, u, b] = [random.normals(k), random.normals(rank), random.normals(n * rank)];
    const weights = roundedToBf16(random.normals(n * k));
    const results: Float32Array[] = [];
    for (const { gpu } of [device, small]) {
      const count = oneRow(gpu);
      const w = inputWeight(gpu, format, weights, n, k);
      const y = outputMatrix(gpu, count, n);
      const lora = { u: inputMatrix(gpu, count, u, rank), b: constantMatrix(gpu, b, n, rank) };
      const commands = matmulNT(gpu, { count, x: inputMatrix(gpu, count, x, k), w, y, lora });
      expect(commands.length).toBe(gpu === device.gpu ? 1 : format === "f32" ? 3 : 2);
      const [bits] = await run(gpu, commands, [y]);
      results.push(denseRows(bits!, y));
    }
    expect(results[1]).toEqual(results[0]);
  });
});

describe.each([
  { headDim: 2, heads: 1, keyValueHeads: 1 },
  { headDim: 6, heads: 6, keyValueHeads: 1 },
  { headDim: 10, heads: 3, keyValueHeads: 3 },
  { headDim: 32, heads: 4, keyValueHeads: 2 },
  { headDim: 128, heads: 2, keyValueHeads: 1 },
])("attention/decode: $heads heads of $headDim over $keyValueHeads", (shape) => {
  const { headDim, heads, keyValueHeads } = shape;
  // A cache holds more keys than the query sees; those are NaN. The prefix is how a pair's answer would see its prompt.
  it.each([
    { keys: 1, visible: [0, 0, 0, 1] },
    { keys: 3, visible: [0, 0, 0, 3] },
    { keys: 40, visible: [0, 0, 0, 33] },
    { keys: 130, visible: [0, 0, 0, 130] },
    { keys: 70, visible: [2, 21, 30, 66] },
  ])("$keys keys, visible $visible", async ({ keys, visible }) => {
    const { gpu } = device;
    const [prefixStart, prefixEnd, ownStart, ownEnd] = visible as [number, number, number, number];
    const random = seededNumbers(keys + headDim);
    const keyCols = keyValueHeads * headDim;
    const q = random.normals(heads * headDim, 2);
    const [k, v] = [random.normals(keys * keyCols), random.normals(keys * keyCols)];
    const sees = (_: number, j: number) => (j >= prefixStart && j < prefixEnd) || (j >= ownStart && j < ownEnd);
    const cached = (values: Float32Array) =>
      values.map((value, i) => (sees(0, Math.floor(i / keyCols)) ? value : Number.NaN));
    const count = oneRow(gpu);
    const o = outputMatrix(gpu, count, heads * headDim, "kept");
    const stats = outputWords(gpu, count, heads * 2);
    const commands = attentionForward(gpu, {
      count,
      shape,
      visible: inputWords(gpu, Uint32Array.from(visible)),
      q: inputMatrix(gpu, count, q, heads * headDim),
      k: constantMatrix(gpu, cached(k), keys, keyCols),
      v: constantMatrix(gpu, cached(v), keys, keyCols),
      o,
      stats: stats.range,
    });
    expect(commands.map((command) => "label" in command && command.label)).toEqual(["attention/decode"]);

    const [oBits, statsBits] = await run(gpu, commands, [o, stats]);

    const sizes = { queries: 1, keys, ...shape };
    const expected = referenceAttention.attentionForward(q, k, v, sizes, sees);
    expect(relativeError(denseRows(oBits!, o), expected.o)).toBeLessThan(KERNEL_TOLERANCE);
    const logsumexp = asFloats(statsBits!).filter((_, i) => i % 2 === 0 && i < heads * 2);
    expect(relativeError(logsumexp, expected.logsumexp)).toBeLessThan(KERNEL_TOLERANCE);
  });
});
