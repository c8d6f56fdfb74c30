import { fragmentUnitOf, type SubgroupMatrixConfig, subgroupMatrixConfigs } from "./subgroup-matrices.ts";

export interface AdapterDescription {
  readonly name: string;
  readonly vendor: string;
  readonly architecture: string;
  /** True for a driver that runs on the CPU. */
  readonly software: boolean;
  readonly features: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
  /** Invocations that run in step, at least and at most; 0 where the adapter does not say. */
  readonly subgroupMinSize: number;
  readonly subgroupMaxSize: number;
  /** Every size and type of subgroup matrix, in the adapter's order. */
  readonly subgroupMatrixConfigs: readonly SubgroupMatrixConfig[];
  /** The one that `--precision f16` takes; null where the adapter cannot do that. */
  readonly f16Matrix: Pick<SubgroupMatrixConfig, "M" | "N" | "K"> | null;
}

/** Dawn's null backend accepts every call and computes nothing: training on it would write garbage. */
export function isNullBackend(adapter: GPUAdapter): boolean {
  return adapter.info.vendor === "" && adapter.info.architecture === "" && adapter.info.device === "";
}

export function adapterName(adapter: GPUAdapter): string {
  const { description, device, vendor, architecture } = adapter.info;
  const name = device || `${vendor} ${architecture}`.trim();
  return description ? `${name} (${description})` : name;
}

export function describeAdapter(adapter: GPUAdapter): AdapterDescription {
  const limits: Record<string, number> = {};
  for (const name in adapter.limits) {
    const value = adapter.limits[name as keyof GPUSupportedLimits];
    if (typeof value === "number") limits[name] = value;
  }
  const { vendor, architecture, isFallbackAdapter, subgroupMinSize = 0, subgroupMaxSize = 0 } = adapter.info;
  const unit = fragmentUnitOf(adapter);
  return {
    name: adapterName(adapter),
    vendor,
    architecture,
    software: isFallbackAdapter,
    features: [...adapter.features].sort(),
    limits,
    subgroupMinSize,
    subgroupMaxSize,
    subgroupMatrixConfigs: subgroupMatrixConfigs(adapter),
    f16Matrix: unit && { M: unit.matrixM, N: unit.matrixN, K: unit.matrixK },
  };
}
