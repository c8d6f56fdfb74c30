import type { Gpu } from "../../src/gpu/gpu.ts";
import { candidateShapes, caseName, describeShape, fragmentUnit, parseCase } from "../../src/ops/fragment-shapes.ts";
import { tuneProducts } from "../../src/ops/tune.ts";
import { productCommands } from "./products.ts";
import type { Product } from "./sizes.ts";

/** The tiles that were tried for a product, with what a factor's gradient takes besides. */
export interface TunedTiles {
  readonly chosen: string;
  /** By the host's clock; null for what was given up. */
  readonly candidate_ms: Readonly<Record<string, number | null>>;
}

const KINDS = { "matmul/nt": "nt", "matmul/nn": "nn", "matmul/tn": "tn" } as const satisfies Record<
  Product["kernel"],
  string
>;

/** Decides for products' fastest shapes as a run does before it trains. Those of one case are measured once. */
export function createTuner(gpu: Gpu): (product: Product) => Promise<TunedTiles> {
  const measured = new Map<string, TunedTiles>();
  return async (product) => {
    const name = caseName({ ...product, kind: KINDS[product.kernel] });
    const earlier = measured.get(name);
    if (earlier) return earlier;
    const { buffers } = gpu.collect(() => productCommands(gpu, product)); // Asks for the decision.
    for (const buffer of buffers) gpu.release(buffer);
    if (!gpu.decisions.open.includes(name)) throw new Error(`internal: the product did not ask for ${name}`);
    const [tuned] = await tuneProducts(gpu, [name], () => performance.now());
    const shapes = candidateShapes(fragmentUnit(gpu), parseCase(name)!).map(describeShape);
    const tiles = {
      chosen: shapes[tuned!.variant]!,
      candidate_ms: Object.fromEntries(shapes.map((shape, i) => [shape, tuned!.ms[i]!])),
    };
    measured.set(name, tiles);
    return tiles;
  };
}
