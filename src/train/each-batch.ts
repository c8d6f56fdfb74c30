import { type PackedBatch, type PairTokens, pack, packedTokens, planBatches } from "../data/pack.ts";

/**
 * Packs pairs, in their order, into batches of at most `maxTokens` rows and yields each with its results. A batch is
 * started before the results of the one before it are waited for, so that the GPU never waits for the host.
 *
 * @param start puts a batch on the GPU's queue before it returns
 */
export async function* eachBatch<T>(
  pairs: readonly PairTokens[],
  maxTokens: number,
  start: (batch: PackedBatch) => Promise<T>,
): AsyncGenerator<{ readonly batch: PackedBatch; readonly results: T }> {
  const started: { readonly batch: PackedBatch; readonly results: Promise<T> }[] = [];
  const finish = async () => {
    const { batch, results } = started.shift()!;
    return { batch, results: await results };
  };
  for (const numbers of planBatches(pairs.map(packedTokens), maxTokens)) {
    const batch = pack(
      numbers.map((pair) => pairs[pair]!),
      numbers,
    );
    const results = start(batch);
    results.catch(() => {}); // Awaited in its turn, unless the caller stops before: never an unhandled rejection.
    started.push({ batch, results });
    if (started.length === 2) yield await finish();
  }
  if (started.length > 0) yield await finish();
}
