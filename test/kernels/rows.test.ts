import { describe, expect, it } from "vitest";
import { gatherRows, scatterRows } from "../../src/ops/elementwise.ts";
import { useDevice } from "../device.ts";
import { firstDifference, seededNumbers } from "../numbers.ts";
import * as reference from "../reference/rows.ts";
import { changedMatrix, denseRows, inputMatrix, inputWords, outputMatrix, rowCount, run } from "./harness.ts";

const device = useDevice();

describe("elementwise/gather_rows and elementwise/scatter_rows", () => {
  it.each([1, 36, 300])("%i wide: the very rows", async (cols) => {
    const { gpu } = device;
    for (const rows of [1, 7, 65, 130]) {
      const random = seededNumbers(rows);
      const tokens = 2 * rows;
      const tokenCount = rowCount(gpu, tokens);
      const count = rowCount(gpu, rows);
      const many = random.normals(tokens * cols);
      const few = random.normals(rows * cols);
      // One of every two rows, the last one among them, from the end to the beginning.
      const chosen = Uint32Array.from(
        { length: rows },
        (_, r) => tokens - 1 - 2 * r - (r > 0 ? random.integer(0, 1) : 0),
      );
      const [gathered, scattered] = [outputMatrix(gpu, count, cols), changedMatrix(gpu, tokenCount, many, cols)];
      const rowNumbers = inputWords(gpu, chosen);
      const commands = [
        ...gatherRows(gpu, { count, rows: rowNumbers, x: inputMatrix(gpu, tokenCount, many, cols), y: gathered }),
        ...scatterRows(gpu, { count, rows: rowNumbers, x: inputMatrix(gpu, count, few, cols), y: scattered }),
      ];

      const [gatheredBits, scatteredBits] = await run(gpu, commands, [gathered, scattered]);

      const expectedGathered = reference.gatherRows(many, chosen, cols);
      const expectedScattered = reference.scatterRows(few, chosen, cols, many);
      expect(firstDifference(denseRows(gatheredBits!, gathered), Float32Array.from(expectedGathered))).toBe(-1);
      expect(firstDifference(denseRows(scatteredBits!, scattered), Float32Array.from(expectedScattered))).toBe(-1);
    }
  });
});
