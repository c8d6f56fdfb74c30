import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

// No kernel goes untested: its header names the float64 reference, and a test that computes with this names the kernel.

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const TESTS = path.join(ROOT, "test/kernels");

const kernels = readdirSync(path.join(ROOT, "kernels"), { recursive: true, encoding: "utf8" })
  .map((file) => file.split(path.sep).join("/"))
  // Those of watch/ compute nothing: src/gpu/watch.ts dispatches them, and test/gpu/watch.test.ts has faults for them.
  .filter((file) => file.endsWith(".wgsl") && !file.startsWith("library/") && !file.startsWith("watch/"))
  .map((file) => file.slice(0, -".wgsl".length));

const tests = readdirSync(TESTS)
  .filter((file) => file.endsWith(".test.ts"))
  .map((file) => ({ file, source: readFileSync(path.join(TESTS, file), "utf8") }));

it("finds the kernels", () => {
  expect(kernels).toContain("matmul/nt");
  expect(kernels.length).toBeGreaterThan(20);
});

it.each(kernels)("%s", (kernel) => {
  const source = readFileSync(path.join(ROOT, "kernels", `${kernel}.wgsl`), "utf8");
  const [, reference] = /Reference: test\/(reference\/\w+\.ts)/.exec(source) ?? [];
  expect(reference, "the reference that the header names").toBeDefined();
  expect(existsSync(path.join(ROOT, "test", reference!))).toBe(true);
  const name = new RegExp(`\\b${kernel}\\b`);
  const testing = tests.filter((test) => name.test(test.source) && test.source.includes(`"../${reference}"`));
  expect(testing.map(({ file }) => file)).not.toEqual([]);
});

it("every kernel is dispatched by src/ops", () => {
  const ops = readdirSync(path.join(ROOT, "src/ops")).map((file) =>
    readFileSync(path.join(ROOT, "src/ops", file), "utf8"),
  );
  expect(kernels.filter((kernel) => !ops.some((source) => source.includes(`"${kernel}"`)))).toEqual([]);
});
