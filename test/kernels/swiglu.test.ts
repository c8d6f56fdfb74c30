import { describe, expect, it } from "vitest";
import { swigluBackward, swigluForward } from "../../src/ops/elementwise.ts";
import { useDevice } from "../device.ts";
import { F32_ROUNDING, KERNEL_TOLERANCE, relativeError, seededNumbers } from "../numbers.ts";
import * as reference from "../reference/swiglu.ts";
import { denseRows, inputMatrix, outputMatrix, rowCount, run } from "./harness.ts";

const device = useDevice();

interface Inputs {
  readonly gate: Float32Array;
  readonly up: Float32Array;
  readonly dy: Float32Array;
}

/** y, dGate and dUp from the kernels and in float64. */
async function runBoth({ gate, up, dy }: Inputs, cols: number) {
  const { gpu } = device;
  const count = rowCount(gpu, gate.length / cols);
  const inputs = { count, gate: inputMatrix(gpu, count, gate, cols), up: inputMatrix(gpu, count, up, cols) };
  const [y, dGate, dUp] = [
    outputMatrix(gpu, count, cols),
    outputMatrix(gpu, count, cols),
    outputMatrix(gpu, count, cols),
  ];
  const commands = [
    ...swigluForward(gpu, { ...inputs, y }),
    ...swigluBackward(gpu, { ...inputs, dy: inputMatrix(gpu, count, dy, cols), dGate, dUp }),
  ];
  const [yBits, dGateBits, dUpBits] = await run(gpu, commands, [y, dGate, dUp]);
  const gradients = reference.swigluBackward(gate, up, dy);
  return [
    { name: "y", actual: denseRows(yBits!, y), expected: reference.swigluForward(gate, up) },
    { name: "dGate", actual: denseRows(dGateBits!, dGate), expected: gradients.dGate },
    { name: "dUp", actual: denseRows(dUpBits!, dUp), expected: gradients.dUp },
  ];
}

describe("elementwise/swiglu_forward and elementwise/swiglu_backward", () => {
  it.each([1, 50, 260])("%i wide", async (cols) => {
    for (const rows of [1, 7, 65, 130]) {
      const random = seededNumbers(rows);
      const normals = (deviation: number) => random.normals(rows * cols, deviation);
      const results = await runBoth({ gate: normals(3), up: normals(1), dy: normals(1) }, cols);
      for (const { name, actual, expected } of results) {
        expect(relativeError(actual, expected), `${name} of ${rows} rows`).toBeLessThan(KERNEL_TOLERANCE);
      }
    }
  });

  it.each([20, 30, 88.8, 100, 1e4])("gates of ±%f: no overflow, each element right", async (size) => {
    const results = await runBoth(
      {
        gate: Float32Array.of(size, -size, 0, -0),
        up: Float32Array.of(2, 2, 3, 3),
        dy: Float32Array.of(5, 5, 7, 7),
      },
      4,
    );
    // WGSL allows exp(x) an error of 3 + 2|x| units in the last place.
    const relative = KERNEL_TOLERANCE + (3 + 2 * Math.min(size, 80)) * 2 * F32_ROUNDING;
    // The kernels take sigmoid(−80) = 1.8e-35 for all that is smaller, times at most |gate| · |up · dy|.
    const closed = 2e-35 * size * 10;
    for (const { name, actual, expected } of results) {
      for (const [element, value] of expected.entries()) {
        const error = Math.abs(actual[element]! - value);
        expect(error, `${name}[${element}]`).toBeLessThanOrEqual(relative * Math.abs(value) + closed);
      }
    }
  });
});
