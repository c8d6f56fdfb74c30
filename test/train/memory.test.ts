import { beforeAll, expect, it } from "vitest";
import { type MemorySample, measureMemory } from "../../scripts/memory-test.ts";
import { TEST_DEVICE } from "../device.ts";
import { rootPath } from "../model/golden-model.ts";

// scripts/memory-test.ts measures 2,000 steps. What grows by 8 KB a step in JavaScript is seen here too; a driver's own
// memory comes and goes by tens of megabytes, so of that only what grows by some 500 KB a step.

const MEBIBYTE = 2 ** 20;
const samples: MemorySample[] = [];

beforeAll(async () => {
  process.chdir(rootPath("."));
  const variant = "with an evaluation every 50 steps and a checkpoint every 20";
  const options = { steps: 300, every: 50, device: TEST_DEVICE, collectsGarbage: true };
  samples.push(...(await measureMemory({ variant, ...options })));
}, 600_000);

it("250 steps, with evaluations and checkpoints, leave no more in JavaScript's memory than the 50 before", () => {
  expect(samples.map(({ step }) => step)).toEqual([50, 100, 150, 200, 250, 300]);
  const [first, ...later] = samples.map(({ heapBytes }) => heapBytes);
  expect(Math.min(...later) - first!).toBeLessThan(0.2 * MEBIBYTE);
  expect(later.at(-1)! - first!).toBeLessThan(0.8 * MEBIBYTE);
});

it("and no more resident memory than the 100 before", () => {
  // What a driver takes at first, for pipelines that are new, is no growth.
  const [, first, ...later] = samples.map(({ residentBytes }) => residentBytes);
  expect(Math.min(...later) - first!).toBeLessThan(16 * MEBIBYTE);
  expect(later.at(-1)! - first!).toBeLessThan(96 * MEBIBYTE);
});
