import { InputError } from "../errors.ts";
import { createPcg64 } from "../random/pcg64.ts";

/** Row indices of the two parts, in the order the parts are to be read. */
export interface TrainTestSplit {
  train: Uint32Array;
  test: Uint32Array;
}

/**
 * The split that `datasets.Dataset.train_test_split(test_size, seed)` makes, index for index.
 *
 * @param rowCount rows to split
 * @param testSize a share of the rows in (0, 1), rounded up, or a whole number of rows
 * @throws InputError when either part would be empty
 */
export function trainTestSplit(rowCount: number, testSize: number, seed: number): TrainTestSplit {
  if (!(testSize > 0) || (testSize >= 1 && !Number.isInteger(testSize))) {
    throw new InputError(`test_size must be a share between 0 and 1 or a whole number of rows, got ${testSize}`);
  }
  const testCount = testSize < 1 ? Math.ceil(testSize * rowCount) : testSize;
  if (testCount >= rowCount) {
    throw new InputError(
      `test_size ${testSize} of ${rowCount} rows leaves none to train on; use more rows or a smaller test_size`,
    );
  }
  const permutation = numpyPermutation(rowCount, seed);
  return { test: permutation.slice(0, testCount), train: permutation.slice(testCount) };
}

/** numpy's `default_rng(seed).permutation(count)`: Fisher–Yates from the end. */
function numpyPermutation(count: number, seed: number): Uint32Array {
  const generator = createPcg64(seed);
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const other = generator.nextInterval(i);
    const swapped = order[i]!;
    order[i] = order[other]!;
    order[other] = swapped;
  }
  return order;
}
