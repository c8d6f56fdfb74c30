import { describe, expect, it } from "vitest";
import { rmsNormBackward, rmsNormForward } from "../../src/ops/norm.ts";
import { useDevice } from "../device.ts";
import { KERNEL_TOLERANCE, relativeError, seededNumbers } from "../numbers.ts";
import * as reference from "../reference/norm.ts";
import {
  changedMatrix,
  denseRows,
  denseWords,
  expectRows,
  inputMatrix,
  inputVector,
  inputWords,
  outputMatrix,
  outputWords,
  rowCount,
  run,
  withLanes,
} from "./harness.ts";

const device = useDevice();

const WIDTHS = [1, 36, 65, 257];
const EPS = 1e-5;

/** Rows that go wrong in lesser kernels, and ordinary ones. (rows, cols). */
const ROW_KINDS = {
  ordinary: (values: Float32Array) => values,
  "peaking at 500": (values: Float32Array) => values.map((value, i) => (i === 0 ? 500 : value)),
  "near 1e-20": (values: Float32Array) => values.map((value) => value * 1e-20),
  zero: (values: Float32Array) => values.map(() => 0),
  "near 1e15": (values: Float32Array) => values.map((value) => value * 1e15),
};

function randomRows(seed: number, rows: number, cols: number): Float32Array<ArrayBuffer> {
  const kinds = Object.values(ROW_KINDS);
  const values = new Float32Array(rows * cols);
  const random = seededNumbers(seed);
  for (let row = 0; row < rows; row++) values.set(kinds[row % kinds.length]!(random.normals(cols)), row * cols);
  return values;
}

/** Each row by itself, because rows differ by 35 orders of magnitude; relative to `size`, the result if not given. */
function expectEachRow(actual: Float32Array, expected: Float64Array, cols: number, size = expected): void {
  const kinds = Object.keys(ROW_KINDS);
  for (let row = 0; row * cols < expected.length; row++) {
    const of = (values: Float32Array | Float64Array) => values.subarray(row * cols, (row + 1) * cols);
    const error = relativeError(of(actual), of(expected), of(size));
    expect(error, `row ${row}: ${kinds[row % kinds.length]}`).toBeLessThan(KERNEL_TOLERANCE);
  }
}

describe.each(WIDTHS)("%i wide", (cols) => {
  const w = seededNumbers(cols)
    .normals(cols, 0.25)
    .map((value) => 1 + value);

  it.each([1, 7, 65, 130])("norm/rms_forward, %i rows", async (rows) => {
    const { gpu } = device;
    const x = randomRows(rows, rows, cols);
    const count = rowCount(gpu, rows);
    const y = outputMatrix(gpu, count, cols);
    const rstd = outputWords(gpu, count, 1);
    const commands = rmsNormForward(gpu, {
      count,
      x: inputMatrix(gpu, count, x, cols),
      w: inputVector(gpu, w),
      eps: EPS,
      y,
      rstd: rstd.range,
    });

    const [yBits, rstdBits] = await run(gpu, commands, [y, rstd]);

    const expected = reference.rmsNormForward(x, w, EPS);
    expectEachRow(denseRows(yBits!, y), expected.y, cols);
    expectEachRow(denseWords(rstdBits!, rstd, count, 1), expected.rstd, 1);
  });

  it.each([
    { rows: 1, add: false },
    { rows: 7, add: true },
    { rows: 65, add: true },
    { rows: 130, add: false },
  ])("norm/rms_backward, $rows rows, add $add", async ({ rows, add }) => {
    const { gpu } = device;
    const random = seededNumbers(rows);
    const [x, dy, before] = [randomRows(rows, rows, cols), random.normals(rows * cols), random.normals(rows * cols)];
    const { rstd } = reference.rmsNormForward(x, w, EPS);
    const count = rowCount(gpu, rows);
    const dx = add ? changedMatrix(gpu, count, before, cols) : outputMatrix(gpu, count, cols);
    const commands = rmsNormBackward(gpu, {
      count,
      x: inputMatrix(gpu, count, x, cols),
      w: inputVector(gpu, w),
      rstd: inputWords(gpu, Float32Array.from(rstd)),
      dy: inputMatrix(gpu, count, dy, cols),
      dx,
      add,
    });

    const [bits] = await run(gpu, commands, [dx]);

    const gradient = reference.rmsNormBackward(x, w, EPS, dy);
    // Where dy lies along x almost nothing of rstd · w·dy is left: the rounding is that of the terms.
    const size = dy.map((value, i) => Math.abs(value * w[i % cols]! * rstd[Math.floor(i / cols)]!));
    if (!add) return expectEachRow(denseRows(bits!, dx), gradient, cols, Float64Array.from(size));
    const sum = gradient.map((value, i) => value + before[i]!);
    expectEachRow(
      denseRows(bits!, dx),
      sum,
      cols,
      Float64Array.from(size, (value, i) => value + Math.abs(before[i]!)),
    );
  });
});

it.each([4, 8, 64])("reductions of %i lanes", async (lanes) => {
  const gpu = withLanes(device.gpu, lanes);
  const [rows, cols] = [7, 257];
  const random = seededNumbers(lanes);
  const [x, dy, w] = [random.normals(rows * cols), random.normals(rows * cols), random.normals(cols)];
  const count = rowCount(gpu, rows);
  const [y, dx, rstd] = [outputMatrix(gpu, count, cols), outputMatrix(gpu, count, cols), outputWords(gpu, count, 1)];
  const common = { count, x: inputMatrix(gpu, count, x, cols), w: inputVector(gpu, w), rstd: rstd.range };
  const commands = [
    ...rmsNormForward(gpu, { ...common, eps: EPS, y }),
    ...rmsNormBackward(gpu, { ...common, dy: inputMatrix(gpu, count, dy, cols), dx, add: false }),
  ];
  const [yBits, dxBits] = await run(gpu, commands, [y, dx, rstd]);
  expectRows(yBits!, y, reference.rmsNormForward(x, w, EPS).y);
  expectRows(dxBits!, dx, reference.rmsNormBackward(x, w, EPS, dy));
});
