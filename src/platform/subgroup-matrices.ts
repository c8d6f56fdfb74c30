import type { FragmentShape } from "../gpu/fragment-shape.ts";
import { fitsWorkgroup, STEP } from "../ops/fragments.ts";

/** A combination of sizes and types that the adapter's subgroup matrices come in: Dawn's addition to GPUAdapterInfo. */
interface SubgroupMatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** Subgroups along each side of a workgroup's tile. */
const SUBGROUPS = 2;

/**
 * How large products are built on this adapter: of its subgroup matrices with f16 factors and f32 sums whose sides are
 * multiples of 8, the largest that a workgroup can be built from. Null where there is none, or where it is not known how
 * wide a subgroup will be.
 */
export function fragmentShapeOf(adapter: GPUAdapter): FragmentShape | null {
  const {
    subgroupMinSize,
    subgroupMaxSize,
    subgroupMatrixConfigs = [],
  } = adapter.info as GPUAdapterInfo & { readonly subgroupMatrixConfigs?: Iterable<SubgroupMatrixConfig> };
  if (!subgroupMaxSize || subgroupMinSize !== subgroupMaxSize || !adapter.features.has("shader-f16")) return null;
  const usable = [...subgroupMatrixConfigs].filter(
    ({ componentType, resultComponentType, M, N, K }) =>
      componentType === "f16" &&
      resultComponentType === "f32" &&
      [M, N, K].every((size) => size % 8 === 0) &&
      STEP % K === 0,
  );
  const largestFirst = usable.sort((a, b) => b.M * b.N * b.K - a.M * a.N * a.K);
  const shapes = largestFirst.flatMap(({ M, N, K }) =>
    fragmentCounts(M, N).map(
      (fragments): FragmentShape => ({
        matrixM: M,
        matrixN: N,
        matrixK: K,
        subgroupSize: subgroupMaxSize,
        fragmentsM: fragments,
        fragmentsN: fragments,
        subgroupsM: SUBGROUPS,
        subgroupsN: SUBGROUPS,
      }),
    ),
  );
  return shapes.find((shape) => fitsWorkgroup(shape, adapter.limits.maxComputeWorkgroupStorageSize)) ?? null;
}

/**
 * Subgroup matrices of the result along each side of what a subgroup computes, the best first: few of the 8 × 8 ones of
 * drivers for the CPU, which compile each into much code.
 */
function fragmentCounts(M: number, N: number): number[] {
  return Math.min(M, N) < 16 ? [2, 4] : [4, 2];
}
