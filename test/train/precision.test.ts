import { expect, it } from "vitest";
import { DeviceError } from "../../src/errors.ts";
import type { OpenedDevice } from "../../src/platform/dawn.ts";
import { choosePrecision } from "../../src/train/precision.ts";

function device(hasMatrices: boolean, software = false): OpenedDevice {
  const adapter = { name: "some card", software };
  return { gpu: { fragments: hasMatrices ? {} : null }, adapter } as unknown as OpenedDevice;
}

it("takes f16 where it is asked for and the device can, and by itself where that is a GPU", () => {
  expect(choosePrecision("auto", device(true))).toBe("f16");
  expect(choosePrecision("auto", device(true, true))).toBe("f32");
  expect(choosePrecision("auto", device(false))).toBe("f32");
  expect(choosePrecision("f32", device(true))).toBe("f32");
  expect(choosePrecision("f16", device(true))).toBe("f16");
});

it("refuses f16 where the device cannot", () => {
  expect(() => choosePrecision("f16", device(false))).toThrow(DeviceError);
  expect(() => choosePrecision("f16", device(false))).toThrow(
    "--precision f16 needs subgroup matrices with f16 factors and f32 sums, which some card does not have; use --precision f32",
  );
});
