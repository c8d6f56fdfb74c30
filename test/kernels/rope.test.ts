import { describe, it } from "vitest";
import { rope } from "../../src/ops/elementwise.ts";
import { useDevice } from "../device.ts";
import { seededNumbers } from "../numbers.ts";
import * as reference from "../reference/rope.ts";
import { changedMatrix, expectRows, inputWords, rowCount, run } from "./harness.ts";

const device = useDevice();

describe("elementwise/rope", () => {
  const settings = { theta: 10_000, scaling: null };
  const MAX_POSITION = 100_000;

  /** The table as a model would upload it, and the same numbers for the reference. */
  function tableOf(headDim: number, positions: readonly number[]) {
    const half = headDim / 2;
    const table = new Float32Array((MAX_POSITION + 1) * half * 2).fill(Number.NaN);
    const exact = reference.exactTurn(headDim, settings);
    for (const position of positions) {
      for (let d = 0; d < half; d++) {
        const { cos, sin } = exact(position, d);
        table.set([cos, sin], (position * half + d) * 2);
      }
    }
    const turn: reference.Turn = (position, d) => {
      const at = (position * half + d) * 2;
      return { cos: table[at]!, sin: table[at + 1]! };
    };
    return { table, turn };
  }

  it.each([
    { headDim: 2, heads: 1 },
    { headDim: 6, heads: 3 },
    { headDim: 10, heads: 3 },
    { headDim: 64, heads: 5 },
    { headDim: 128, heads: 1 },
  ])("$heads heads of $headDim", async ({ headDim, heads }) => {
    const { gpu } = device;
    const cols = heads * headDim;
    const positions = [0, 1, 17, 4095, MAX_POSITION];
    const { table, turn } = tableOf(headDim, positions);
    const tableRange = inputWords(gpu, table);
    for (const rows of [1, 7, 130]) {
      const x = seededNumbers(rows).normals(rows * cols);
      const own = Uint32Array.from({ length: rows }, (_, t) => positions[(t + 4) % positions.length]!);
      const count = rowCount(gpu, rows);
      for (const inverse of [false, true]) {
        const y = changedMatrix(gpu, count, x, cols);
        const op = { count, positions: inputWords(gpu, own), table: tableRange, x: y, headDim, inverse };
        const [bits] = await run(gpu, rope(gpu, op), [y]);
        expectRows(bits!, y, reference.rope(x, own, headDim, turn, inverse ? -1 : 1));
      }
    }
  });

  it("turns back what it turned", async () => {
    const { gpu } = device;
    const { table } = tableOf(10, [MAX_POSITION]);
    const x = seededNumbers(1).normals(3 * 30);
    const count = rowCount(gpu, 3);
    const y = changedMatrix(gpu, count, x, 30);
    const op = {
      count,
      positions: inputWords(gpu, new Uint32Array(3).fill(MAX_POSITION)),
      table: inputWords(gpu, table),
      x: y,
      headDim: 10,
    };
    const [bits] = await run(
      gpu,
      [...rope(gpu, { ...op, inverse: false }), ...rope(gpu, { ...op, inverse: true })],
      [y],
    );
    expectRows(bits!, y, x);
  });
});
