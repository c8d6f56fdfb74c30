import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterEach, beforeEach, expect, it, type TestContext, vi } from "vitest";
import { Gpu } from "../../src/gpu/gpu.ts";
import { readKernel } from "../../src/platform/kernels.ts";
import type { Terminal } from "../../src/terminal.ts";
import { tuneDevice } from "../../src/train/tune-device.ts";
import { useDevice } from "../device.ts";
import { temporaryFolder } from "../weights/fixtures.ts";

// Runs tune a device that says it is a GPU. A device without subgroup matrices (SwiftShader) shows these tests as skipped.

const device = useDevice();

const ADAPTER = { name: "Card (driver 1.0)", vendor: "maker", architecture: "kind", software: false };
const CASES = ["matmul nt 64 x 8 x 72", "matmul tn 8 x 72 x 512"];
const NEVER = new AbortController().signal;

let cache: string;
let lines: string[];
let statuses: string[];
const terminal: Terminal = {
  line: (text) => void lines.push(text),
  status: (text) => void statuses.push(text),
  progress: () => {},
};

beforeEach(async () => {
  cache = await temporaryFolder();
  vi.stubEnv("XDG_CACHE_HOME", cache);
  [lines, statuses] = [[], []];
});
afterEach(() => vi.unstubAllEnvs());

/** As the next run would open it: nothing is decided. */
function freshGpu({ skip }: TestContext): Gpu {
  const { device: raw, fragments } = device.gpu;
  skip(!fragments, "the device has no subgroup matrices with f16 factors");
  return new Gpu(raw, { kernelSource: readKernel, subgroupSize: 8, fragments });
}

async function keptFile(): Promise<string> {
  const folder = path.join(cache, "dpo-train/tuning");
  const names = await readdir(folder);
  expect(names).toHaveLength(1);
  return path.join(folder, names[0]!);
}

function tune(gpu: Gpu, cases = CASES, adapter: object = ADAPTER, signal = NEVER): Promise<void> {
  const opened = { gpu, adapter: { ...ADAPTER, ...adapter } } as unknown as Parameters<typeof tuneDevice>[0];
  return tuneDevice(opened, cases, terminal, signal);
}

it("measures once, and only what is new", { timeout: 300_000 }, async (context) => {
  const first = freshGpu(context);
  const { liveBytes } = first.memory;
  await tune(first, [CASES[0]!, "attention of something"]);
  expect([...first.decisions.made.keys()]).toEqual([CASES[0]]);
  expect(lines).toEqual([expect.stringMatching(/^measured the tiles of 1 products in \d+\.\d s, kept for later runs/)]);
  expect(statuses).toEqual(["measuring tiles for this GPU: 0 of 1 products"]);
  expect(first.memory.liveBytes).toBe(liveBytes);
  const kept = await readFile(await keptFile(), "utf8");
  expect(JSON.parse(kept)).toEqual(Object.fromEntries(first.decisions.made));

  [lines, statuses] = [[], []];
  const second = freshGpu(context);
  await tune(second, [CASES[0]!]);
  expect([lines, statuses]).toEqual([[], []]);
  expect(second.decisions.made).toEqual(first.decisions.made);
  expect(second.pipelines.count).toBe(0);
  expect(await readFile(await keptFile(), "utf8")).toBe(kept);

  const third = freshGpu(context);
  await tune(third, CASES);
  expect(statuses).toEqual(["measuring tiles for this GPU: 0 of 1 products"]);
  expect(third.decisions.made.get(CASES[0]!)).toBe(first.decisions.made.get(CASES[0]!));
  expect(Object.keys(JSON.parse(await readFile(await keptFile(), "utf8"))).sort()).toEqual([...CASES].sort());
});

it("measures again what is kept wrongly, or for another driver", { timeout: 300_000 }, async (context) => {
  const gpu = freshGpu(context);
  await tune(gpu, [CASES[0]!]);
  const file = await keptFile();
  for (const text of ["{", JSON.stringify({ [CASES[0]!]: 99 }), JSON.stringify({ [CASES[0]!]: -1 })]) {
    await writeFile(file, text);
    lines = [];
    await tune(gpu, [CASES[0]!]);
    expect(lines, text).toHaveLength(1);
    expect(JSON.parse(await readFile(file, "utf8"))).toEqual(Object.fromEntries(gpu.decisions.made));
  }
  lines = [];
  await tune(gpu, [CASES[0]!], { name: "Card (driver 1.1)" });
  expect(lines).toHaveLength(1);
  expect(await readdir(path.dirname(file))).toHaveLength(2);
});

it("goes on with a note where nothing can be kept", async (context) => {
  await mkdir(path.join(cache, "dpo-train"));
  await writeFile(path.join(cache, "dpo-train/tuning"), "");
  const gpu = freshGpu(context);
  await tune(gpu, [CASES[0]!]);
  expect(lines).toEqual([expect.stringMatching(/^note: the measured tiles could not be kept, .*tuning/)]);
  expect(gpu.decisions.made.size).toBe(1);
});

it("stops when the run is interrupted", async (context) => {
  const gpu = freshGpu(context);
  const { liveBytes } = gpu.memory;
  const interrupted = AbortSignal.abort(new Error("interrupted"));
  await expect(tune(gpu, CASES, {}, interrupted)).rejects.toThrow("interrupted");
  expect(gpu.memory.liveBytes).toBe(liveBytes);
  expect(await readdir(cache)).toEqual([]);
});

it("leaves a driver for the CPU, and a device without matrices, to the guess", async (context) => {
  const gpu = freshGpu(context);
  await tune(gpu, CASES, { software: true });
  await tune(new Gpu(gpu.device, { kernelSource: readKernel }), CASES);
  expect([lines, statuses, gpu.decisions.made.size]).toEqual([[], [], 0]);
  expect(await readdir(cache)).toEqual([]);
});
