import type { FragmentUnit } from "./fragment-unit.ts";
import { Gpu } from "./gpu.ts";

/** What a plan has to know of an adapter. */
export interface PlannedAdapter {
  readonly bindingLimitBytes: number;
  readonly subgroupSize: number;
  readonly fragments: FragmentUnit | null;
}

/** Numbers of the WebGPU specification, for where no implementation has been loaded. */
const CONSTANTS = {
  GPUBufferUsage: {
    MAP_READ: 0x1,
    MAP_WRITE: 0x2,
    COPY_SRC: 0x4,
    COPY_DST: 0x8,
    INDEX: 0x10,
    VERTEX: 0x20,
    UNIFORM: 0x40,
    STORAGE: 0x80,
    INDIRECT: 0x100,
    QUERY_RESOLVE: 0x200,
  },
  GPUShaderStage: { VERTEX: 0x1, FRAGMENT: 0x2, COMPUTE: 0x4 },
} as const;

/**
 * A `Gpu` without a GPU, for plans: buffers are counted and never made, kernels are never compiled, nothing can be run. What
 * a run would allocate and dispatch is found by making it here, with the code that makes it there.
 */
export function createPlanningGpu({ bindingLimitBytes, subgroupSize, fragments }: PlannedAdapter): Gpu {
  for (const [name, values] of Object.entries(CONSTANTS)) {
    if (!(name in globalThis)) Object.assign(globalThis, { [name]: values });
  }
  const never = new Promise<never>(() => {});
  const device = {
    limits: {
      maxStorageBufferBindingSize: bindingLimitBytes,
      maxBufferSize: Number.MAX_SAFE_INTEGER,
      maxComputeWorkgroupStorageSize: fragments?.workgroupBytes ?? 0,
    },
    features: new Set<string>(),
    queue: { writeBuffer: () => {} },
    lost: never,
    addEventListener: () => {},
    pushErrorScope: () => {},
    popErrorScope: () => never,
    createBuffer: () => ({ destroy: () => {} }),
    createBindGroup: () => ({}),
    createBindGroupLayout: () => ({}),
    createPipelineLayout: () => ({}),
    createShaderModule: () => ({ getCompilationInfo: () => never }),
    destroy: () => {},
  };
  return new Gpu(device as unknown as GPUDevice, {
    kernelSource: () => "",
    subgroupSize,
    fragments,
    bindingLimitBytes,
  });
}
