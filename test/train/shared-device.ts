import { afterAll, vi } from "vitest";
import type * as Dawn from "../../src/platform/dawn.ts";

// In place of src/platform/dawn.ts where a test file makes many short runs: all of them get one device, so that kernels
// are compiled once. In the test file: vi.mock("../../src/platform/dawn.ts", () => import("./shared-device.ts")).

const dawn = await vi.importActual<typeof Dawn>("../../src/platform/dawn.ts");
let shared: Promise<Dawn.OpenedDevice> | undefined;

afterAll(closeSharedDevice);

/** The next run gets a device of its own. */
export async function closeSharedDevice(): Promise<void> {
  const opened = await shared;
  shared = undefined;
  try {
    await opened?.gpu.idle(); // Throws what went wrong on the device and no test has noticed.
  } finally {
    opened?.close();
  }
}

/** The device of this file's first run. */
export async function openDevice(request: Dawn.DeviceRequest): Promise<Dawn.OpenedDevice> {
  shared ??= dawn.openDevice(request);
  return { ...(await shared), close: () => {} };
}
