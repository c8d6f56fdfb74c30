import type { FragmentShape } from "../gpu/fragment-shape.ts";

/** A combination of sizes and types that the adapter's subgroup matrices come in: Dawn's addition to GPUAdapterInfo. */
interface SubgroupMatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/**
 * Subgroup matrices of the result along each side of what a subgroup computes: few of the 8 × 8 ones of drivers for the
 * CPU, which compile each into much code.
 */
const FRAGMENTS = { small: 2, large: 4 } as const;
/** Subgroups along each side of a workgroup's tile. */
const SUBGROUPS = 2;
/** Elements along K that a kernel brings at a time: a matrix's K must divide it. */
const STEP = 32;

/**
 * How large products are built on this adapter: the largest of its subgroup matrices with f16 factors and f32 sums whose
 * sides are multiples of 8. Null where it has none, or does not say how wide its subgroups are.
 */
export function fragmentShapeOf(adapter: GPUAdapter): FragmentShape | null {
  const { subgroupMaxSize, subgroupMatrixConfigs = [] } = adapter.info as GPUAdapterInfo & {
    readonly subgroupMatrixConfigs?: Iterable<SubgroupMatrixConfig>;
  };
  if (!subgroupMaxSize || !adapter.features.has("shader-f16")) return null;
  const fitting = [...subgroupMatrixConfigs].filter(
    ({ componentType, resultComponentType, M, N, K }) =>
      componentType === "f16" &&
      resultComponentType === "f32" &&
      [M, N, K].every((size) => size % 8 === 0) &&
      STEP % K === 0,
  );
  const [largest] = fitting.sort((a, b) => b.M * b.N * b.K - a.M * a.N * a.K);
  if (!largest) return null;
  const fragments = Math.min(largest.M, largest.N) < 16 ? FRAGMENTS.small : FRAGMENTS.large;
  return {
    matrixM: largest.M,
    matrixN: largest.N,
    matrixK: largest.K,
    subgroupSize: subgroupMaxSize,
    fragmentsM: fragments,
    fragmentsN: fragments,
    subgroupsM: SUBGROUPS,
    subgroupsN: SUBGROUPS,
  };
}
