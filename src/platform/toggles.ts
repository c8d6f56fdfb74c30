/**
 * Which of Dawn's checks are on. `fast` leaves out the validation of every call and of compiled shaders, and the clamping
 * of every index in a shader, which cost a fifth of a training step on SwiftShader; `safe` has them all, for tests and for
 * finding a fault.
 */
export type DeviceProfile = "fast" | "safe";

/** Dawn's switches, by its own names, in place of what it would choose. */
export interface Toggles {
  readonly enabled: readonly string[];
  readonly disabled: readonly string[];
}

const ALWAYS: Toggles = {
  enabled: [
    "allow_unsafe_apis", // Subgroup matrices are an experiment of Dawn's.
    "vulkan_enable_f16_on_nvidia", // Else NVIDIA's cards show neither f16 nor subgroup matrices.
  ],
  disabled: ["timestamp_quantization"], // Else a profile is in steps of 100 µs.
};

const PROFILES: Readonly<Record<DeviceProfile, Toggles>> = {
  // lazy_clear_resource_on_first_use stays on: zero padding relies on fresh buffers being zero, see docs/performance.md.
  fast: {
    enabled: [
      "skip_validation",
      "disable_robustness",
      "disable_workgroup_init",
      "disable_polyfills_on_integer_div_and_mod",
    ],
    disabled: ["enable_spirv_validation"],
  },
  safe: { enabled: [], disabled: [] },
};

export function togglesOf(profile: DeviceProfile): Toggles {
  const { enabled, disabled } = PROFILES[profile];
  return { enabled: [...ALWAYS.enabled, ...enabled], disabled: [...ALWAYS.disabled, ...disabled] };
}
