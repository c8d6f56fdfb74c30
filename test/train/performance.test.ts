import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { performanceRecord } from "../../src/train/performance.ts";
import { RunFolder } from "../../src/train/run-folder.ts";
import { createRunReporter } from "../../src/train/run-reporter.ts";
import { temporaryFolder } from "../weights/fixtures.ts";

const SILENT = { line: () => {}, status: () => {}, progress: () => {} };
const MEMORY = { gpuBytes: 22_990_400_000, hostBytes: 1_234_567_890 };

it("gives rates since the record before, and units that are read at a glance", () => {
  const before = { steps: 2, pairs: 32, tokens: 8000, elapsedMs: 10_000 };
  const now = { steps: 4, pairs: 64, tokens: 18_001, elapsedMs: 14_000.4 };
  expect(performanceRecord(now, before, MEMORY)).toEqual({
    step: 4,
    elapsed_s: 14,
    pairs_per_second: 7.999,
    tokens_per_second: 2500,
    gpu_memory_gb: 22.99,
    host_memory_gb: 1.235,
  });
  // A clock that stands still makes no rate infinite.
  expect(performanceRecord({ ...now, elapsedMs: 10_000 }, before, MEMORY).pairs_per_second).toBe(32_000);
});

it("is recorded beside each record of training, and not of an evaluation", async () => {
  const folder = await RunFolder.create(join(await temporaryFolder(), "run"), "");
  const reporter = createRunReporter(folder, 4, SILENT, () => MEMORY);
  for (const step of [1, 2, 3]) {
    reporter.onStep({ step, record: { step, epoch: 0 }, pairs: 2, tokens: 100 });
    if (step !== 2) await reporter.onRecord({ step, epoch: 0, loss: 0.5 });
  }
  await reporter.onRecord({ step: 3, epoch: 0, eval_loss: 0.6 });
  await folder.close();
  const lines = (await readFile(join(folder.path, "performance.jsonl"), "utf8")).trim().split("\n");
  expect(lines.map((line) => JSON.parse(line).step)).toEqual([1, 3]);
  expect((await readFile(join(folder.path, "metrics.jsonl"), "utf8")).trim().split("\n")).toHaveLength(3);
});

it("goes on behind the checkpoint of a run that is continued", async () => {
  const path = join(await temporaryFolder(), "run");
  const create = async (step: number) => {
    const folder = await RunFolder.create(path, "", { metrics: "", step });
    await folder.close();
    return readFile(join(path, "performance.jsonl"), "utf8");
  };
  expect(await create(2), "of an earlier version").toBe("");
  const line = (step: number) => `${JSON.stringify({ step, elapsed_s: step })}\n`;
  await writeFile(join(path, "performance.jsonl"), `${line(1)}${line(2)}${line(3)}{"step`);
  expect(await create(2)).toBe(line(1) + line(2));
  expect(await create(0), "begun anew").toBe("");
});
