import type { PlannedAdapter } from "../gpu/planning-gpu.ts";

/** The adapter of a plan that is made without one: what NVIDIA's GPUs offer through Vulkan. */
export function planningAdapter(precision: "f32" | "f16"): PlannedAdapter {
  return {
    bindingLimitBytes: 2 ** 31 - 4,
    subgroupSize: 32,
    fragments:
      precision === "f16"
        ? {
            matrixM: 16,
            matrixN: 16,
            matrixK: 16,
            subgroupSize: 32,
            workgroupBytes: 48 * 1024,
            workgroupInvocations: 1024,
          }
        : null,
  };
}
