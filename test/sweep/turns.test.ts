import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { parseSweep } from "../../src/config/sweep.ts";
import { trainSweep } from "../../src/sweep/train-sweep.ts";
import { Inputs } from "../../src/train/inputs.ts";
import { TEST_DEVICE } from "../device.ts";
import { CONFIG } from "../report/run-folders.ts";
import { temporaryFolder } from "../weights/fixtures.ts";

const NEVER = new AbortController().signal;

it("a run that lags is stopped where it waits, and not where another process has brought it to its end", async () => {
  const folder = await temporaryFolder();
  const text = `${CONFIG.replace('"runs/one"', JSON.stringify(folder))}eval_dataset: "data.jsonl"\neval_strategy: steps\neval_steps: 1\nsweep: {grid: {beta: [0.1, 0.2, 0.3, 0.4, 0.5]}}\n`;
  const sweep = parseSweep(text, "sweep.yaml");
  const states = [
    ["done", 0.4],
    ["done", 0.4],
    ["done", 0.4],
    ["paused", 0.6],
    ["done", 0.6],
  ] as const;
  for (const [i, [status, loss]] of states.entries()) {
    const { output_dir } = sweep.runs[i]!.config;
    await mkdir(output_dir);
    await writeFile(join(output_dir, "run.json"), JSON.stringify({ status }));
    await writeFile(join(output_dir, "metrics.jsonl"), `{"step":1,"epoch":0.5,"eval_loss":${loss}}\n`);
  }
  const calls: string[] = [];
  const nameOf = (output: string) => sweep.runs.find(({ config }) => config.output_dir === output)!.name;
  const options = {
    session: { device: TEST_DEVICE, profile: "safe", precision: "auto" } as const,
    stopWorse: true,
    onRunStart: (output: string) => void calls.push(`start ${nameOf(output)}`),
    onRunPause: async () => {},
    onRunEnd: async (output: string) => void calls.push(`end ${nameOf(output)}`),
  };
  const lines: string[] = [];
  const terminal = { line: (line: string) => void lines.push(line), status: () => {}, progress: () => {} };
  const open = [3, 4].map((index) => ({ run: sweep.runs[index]!, index }));
  expect(await trainSweep(sweep, open, new Inputs(), options, terminal, NEVER)).toEqual([]);
  const ends = sweep.runs.map(async ({ config }) =>
    JSON.parse(await readFile(join(config.output_dir, "run.json"), "utf8")),
  );
  expect((await Promise.all(ends)).map(({ status }) => status)).toEqual(["done", "done", "done", "stopped", "done"]);
  // Whoever sends it to trackers has not seen it in this process.
  expect(calls).toEqual(["start beta=0.4", "end beta=0.4"]);
  expect(lines.at(-1)).toBe("it is done already");
});
