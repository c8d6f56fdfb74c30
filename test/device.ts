import { afterAll, beforeAll } from "vitest";
import type { Gpu } from "../src/gpu/gpu.ts";
import { type DeviceRequest, type OpenedDevice, openDevice } from "../src/platform/dawn.ts";
import type { DeviceProfile } from "../src/platform/toggles.ts";

/** As `--device`: the driver on the CPU, unless the environment names another. */
export const TEST_DEVICE = process.env.DPO_TRAIN_TEST_DEVICE ?? "software";

/** With all checks, unless the environment asks for what training uses. */
const PROFILE: DeviceProfile = process.env.DPO_TRAIN_TEST_PROFILE === "fast" ? "fast" : "safe";

/** A device for the tests of this file, opened before the first and closed after the last. Each call opens one more. */
export function useDevice(options: Omit<DeviceRequest, "device"> = {}): { readonly gpu: Gpu } {
  let opened: OpenedDevice | undefined;
  beforeAll(async () => {
    opened = await openDevice({ device: TEST_DEVICE, profile: PROFILE, ...options });
  });
  afterAll(async () => {
    try {
      await opened?.gpu.idle(); // Throws what went wrong on the device and no test has noticed.
    } finally {
      opened?.close();
    }
  });
  return {
    get gpu() {
      if (!opened) throw new Error("the device is open only while tests run");
      return opened.gpu;
    },
  };
}
