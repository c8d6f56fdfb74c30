import { createMt19937 } from "../random/mt19937.ts";

/** From here on torch draws 64 bits for each position, and our index type would be too narrow to follow much longer. */
const RANDPERM_LIMIT = Math.floor((2 ** 32 - 1) / 20);

/**
 * The order in which the Hugging Face Trainer reads `pairCount` rows in an epoch, on one process:
 * `torch.randperm(pairCount)` with a generator seeded with `seed + epoch` (accelerate's SeedableRandomSampler).
 *
 * @param epoch from 0
 * @returns pair indices
 */
export function epochOrder(pairCount: number, seed: number, epoch: number): Uint32Array {
  if (pairCount >= RANDPERM_LIMIT) {
    throw new RangeError(`internal: cannot shuffle ${pairCount} pairs; the limit is ${RANDPERM_LIMIT - 1}`);
  }
  const generator = createMt19937(seed + epoch);
  const order = Uint32Array.from({ length: pairCount }, (_, i) => i);
  for (let i = 0; i < pairCount - 1; i++) {
    const other = i + (generator.nextUint32() % (pairCount - i));
    const swapped = order[i]!;
    order[i] = order[other]!;
    order[other] = swapped;
  }
  return order;
}
