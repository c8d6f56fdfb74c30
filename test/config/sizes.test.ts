import { expect, test } from "vitest";
import { sizeBytes } from "../../src/config/sizes.ts";

test.each([
  ["1KB", 1000],
  ["500MB", 500_000_000],
  ["5GB", 5_000_000_000],
  ["1KiB", 1024],
  ["500MiB", 524_288_000],
  ["999999GiB", 999_999 * 2 ** 30],
])("%s is %i bytes", (size, bytes) => {
  expect(sizeBytes(size)).toBe(bytes);
});

test.each(["", "5", "5gb", "5 GB", "0GB", "1.5GB", "5TB"])("%j is not a size", (size) => {
  expect(() => sizeBytes(size)).toThrow("is not a size");
});
