import { DeviceError } from "../errors.ts";
import type { OpenedDevice } from "../platform/dawn.ts";
import type { Precision } from "../platform/load-base.ts";

/** As `--precision`: the path named, or the one that suits most. */
export type PrecisionChoice = "auto" | Precision;

/**
 * `auto` is f16 where the adapter has subgroup matrices, but on drivers for the CPU, which only imitate them.
 *
 * @throws DeviceError where f16 is asked for on a device without subgroup matrices
 */
export function choosePrecision(
  choice: PrecisionChoice,
  { gpu, adapter }: Pick<OpenedDevice, "gpu" | "adapter">,
): Precision {
  if (choice === "f16" && !gpu.fragments) {
    throw new DeviceError(
      `--precision f16 needs subgroup matrices with f16 factors and f32 sums, which ${adapter.name} does not have; use --precision f32`,
    );
  }
  if (choice !== "auto") return choice;
  return gpu.fragments && !adapter.software ? "f16" : "f32";
}
