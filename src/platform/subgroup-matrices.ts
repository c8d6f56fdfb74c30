import type { FragmentUnit } from "../gpu/fragment-unit.ts";
import { suitsProducts } from "../ops/fragment-shapes.ts";

/** A combination of sizes and types that the adapter's subgroup matrices come in: Dawn's addition to GPUAdapterInfo. */
export interface SubgroupMatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** Every combination, as plain objects: Dawn's own show nothing of themselves in JSON. */
export function subgroupMatrixConfigs({ info }: GPUAdapter): SubgroupMatrixConfig[] {
  const { subgroupMatrixConfigs: configs = [] } = info as GPUAdapterInfo & {
    readonly subgroupMatrixConfigs?: Iterable<SubgroupMatrixConfig>;
  };
  return Array.from(configs, ({ componentType, resultComponentType, M, N, K }) => ({
    componentType,
    resultComponentType,
    M,
    N,
    K,
  }));
}

/** Bindings of `attention/tensor_backward_key`, more than any adapter need have. */
const STORAGE_BUFFERS = 10;

/**
 * Of the adapter's subgroup matrices with f16 factors and f32 sums, whose sides are multiples of 8, the largest that every
 * product can be built from. Null where there is none, or where it is not known how wide a subgroup will be.
 */
export function fragmentUnitOf(adapter: GPUAdapter): FragmentUnit | null {
  const { subgroupMinSize, subgroupMaxSize } = adapter.info;
  if (!subgroupMaxSize || subgroupMinSize !== subgroupMaxSize || !adapter.features.has("shader-f16")) return null;
  if (adapter.limits.maxStorageBuffersPerShaderStage < STORAGE_BUFFERS) return null;
  const units = subgroupMatrixConfigs(adapter)
    .filter(
      ({ componentType, resultComponentType, M, N, K }) =>
        componentType === "f16" && resultComponentType === "f32" && [M, N, K].every((size) => size % 8 === 0),
    )
    .sort((a, b) => b.M * b.N * b.K - a.M * a.N * a.K)
    .map(
      ({ M, N, K }): FragmentUnit => ({
        matrixM: M,
        matrixN: N,
        matrixK: K,
        subgroupSize: subgroupMaxSize,
        workgroupBytes: adapter.limits.maxComputeWorkgroupStorageSize,
        workgroupInvocations: adapter.limits.maxComputeInvocationsPerWorkgroup,
      }),
    );
  return units.find(suitsProducts) ?? null;
}
