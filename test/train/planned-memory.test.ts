import { setMaxListeners } from "node:events";
import { cpSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import { DeviceError, OutOfMemoryError } from "../../src/errors.ts";
import type { BufferRange } from "../../src/gpu/buffer.ts";
import { Gpu } from "../../src/gpu/gpu.ts";
import type * as Dawn from "../../src/platform/dawn.ts";
import { openDevice } from "../../src/platform/dawn.ts";
import { readKernel } from "../../src/platform/kernels.ts";
import type { Precision } from "../../src/platform/load-base.ts";
import { run } from "../../src/train/run.ts";
import { TEST_DEVICE } from "../device.ts";
import { rootPath } from "../model/golden-model.ts";
import { type TestTensor, tensorFile } from "../weights/fixtures.ts";
import { temporaryFolder } from "./whole-run.ts";

// Whole runs on simulated small cards: what was planned is what they take.

/** Whether another program has taken the rest of the memory. */
let isFull = () => false;
/** Of the memory that a plan is made for, what there is. */
let limitShare = 1;
/** Of the card: small, so that weights and logits come in parts, and that loading takes no more than training. */
const BINDING_LIMIT_BYTES = 2 ** 20;

setMaxListeners(0); // Of a device that is many cards.

// All cards are one device, so that kernels are compiled once. Each counts its own memory.
vi.mock("../../src/platform/dawn.ts", async (importOriginal) => {
  const original = await importOriginal<typeof Dawn>();
  let opened: Dawn.OpenedDevice | undefined;
  const openDevice: typeof original.openDevice = async ({ memoryLimitBytes = null, ...request }) => {
    opened ??= await original.openDevice(request);
    const { device, fragments, pipelines } = opened.gpu;
    const gpu = new Gpu(device, {
      kernelSource: readKernel,
      subgroupSize: opened.adapter.subgroupMaxSize,
      fragments,
      bindingLimitBytes: BINDING_LIMIT_BYTES,
      memoryLimitBytes: memoryLimitBytes && Math.floor(memoryLimitBytes * limitShare),
    });
    const readback: Gpu["readback"] = (...ranges: BufferRange[]) => {
      if (isFull()) throw new OutOfMemoryError("the GPU is out of memory: results need 256 bytes, 9 of 9 are taken");
      return Gpu.prototype.readback.apply(gpu, ranges);
    };
    return { ...opened, gpu: Object.assign(gpu, { pipelines, readback }), close: () => {} };
  };
  afterAll(() => opened?.close());
  return { ...original, openDevice };
});

const folder = temporaryFolder();
const model = join(folder, "model");
const config = join(folder, "config.yaml");
const LAYERS = 3;
let runs = 0;

/** A golden model whose only layer is there three times: small kernels, but layers enough for a choice of what to store. */
beforeAll(() => {
  cpSync(rootPath("test/golden/models/f16-one-kv"), model, { recursive: true });
  const shape = join(model, "config.json");
  writeFileSync(shape, JSON.stringify({ ...JSON.parse(readFileSync(shape, "utf8")), num_hidden_layers: LAYERS }));
  const weights = join(model, "model.safetensors");
  const bytes = readFileSync(weights);
  const start = 8 + Number(bytes.readBigUInt64LE());
  const { __metadata__: _, ...header } = JSON.parse(bytes.toString("utf8", 8, start));
  const tensors: Record<string, TestTensor> = {};
  for (const [name, { dtype, shape, data_offsets: at }] of Object.entries<
    TestTensor & { data_offsets: [number, number] }
  >(header)) {
    const data = bytes.subarray(start + at[0], start + at[1]);
    for (let layer = 0; layer < LAYERS; layer++) {
      tensors[name.replace("layers.0.", `layers.${layer}.`)] = { dtype, shape, data };
    }
  }
  writeFileSync(weights, tensorFile(tensors));
  writeFileSync(config, CONFIG);
});

const CONFIG = `model: ${model}
dataset: test/golden/data/plain-train.jsonl
eval_dataset: test/golden/data/plain-eval.jsonl
lora: {r: 2, lora_alpha: 4, target_modules: [q_proj, down_proj]}
max_train_samples: 4
per_device_train_batch_size: 2
num_train_epochs: 1
reference_cache: false
`;

interface RunMemory {
  readonly folder: string;
  readonly plannedBytes: number;
  readonly peakBytes: number;
  readonly stored: string;
  readonly maxTokens: number;
}

const BARE = ["export.merged_16bit=false"];
const IN_4_BITS = [...BARE, "load_in_4bit=true"];
const EVERYTHING_ELSE = ["sample_prompt=Say something.", "sample_max_new_tokens=4", "eval_kl=true", "optim=adamw"];

/** Trains for two steps of two pairs. @param deviceMemory bytes of the card, null for one that does not say */
async function train(
  settings: readonly string[],
  deviceMemory: number | null,
  precision: Precision = "f32",
  output = join(folder, `${runs++}`),
) {
  process.chdir(rootPath("."));
  const silent = { line: () => {}, status: () => {}, progress: () => {} };
  const resolved = loadConfig(config, [`output_dir=${output}`, ...settings]).config;
  const request = {
    config: resolved,
    device: TEST_DEVICE,
    profile: "safe",
    precision,
    deviceMemory,
    dryRun: false,
  } as const;
  try {
    await run(request, silent);
  } catch (error) {
    return { output, error: error as Error };
  }
  const { memory, schedule } = JSON.parse(readFileSync(join(output, "run.json"), "utf8"));
  const found: RunMemory = {
    folder: output,
    plannedBytes: memory.planned_bytes,
    peakBytes: memory.peak_bytes,
    stored: schedule.stored,
    maxTokens: schedule.max_tokens_per_batch,
  };
  return { output, found };
}

async function trained(...args: Parameters<typeof train>): Promise<RunMemory> {
  const { found, error } = await train(...args);
  if (error) throw error;
  return found;
}

function expectAsPlanned({ plannedBytes, peakBytes }: RunMemory): void {
  expect(peakBytes).toBeLessThanOrEqual(plannedBytes);
  expect(peakBytes).toBeGreaterThan(0.95 * plannedBytes);
}

async function hasMatrices(): Promise<boolean> {
  return (await openDevice({ device: TEST_DEVICE })).gpu.fragments !== null;
}

/** The card on which a plan just fits. */
function cardFor(plannedBytes: number): number {
  return Math.ceil(plannedBytes / 0.96);
}

describe.each(["f32", "f16"] as const)("the measured peak of a run in %s", (precision) => {
  it.for([
    ["bare", BARE],
    ["with all that a run may do", EVERYTHING_ELSE],
    ["in 4 bits", IN_4_BITS],
  ] as const)("%s, is the planned one, whatever is stored", async ([, settings], { skip }) => {
    skip(precision === "f16" && !(await hasMatrices()), "the device has no subgroup matrices with f16 factors");
    const all = await trained([...settings, "gradient_checkpointing=false"], null, precision);
    expect(all.stored).toBe("everything");
    expectAsPlanned(all);
    const tokens = `max_tokens_per_batch=${all.maxTokens}`;
    // On a card that is a little too small for it, and then on one for each plan that just fits.
    const less = await trained([...settings, tokens], cardFor(all.plannedBytes) - 1000, precision);
    expect(less.stored).toBe("without gate and up");
    expectAsPlanned(less);
    const least = await trained([...settings, tokens], cardFor(less.plannedBytes) - 1000, precision);
    expect(least.stored).toBe("layer inputs");
    expectAsPlanned(least);
    if (settings !== BARE) return;
    const again = await trained([...settings, tokens], cardFor(least.plannedBytes), precision);
    expect(again.plannedBytes).toBe(least.plannedBytes);
    expect(again.peakBytes).toBe(least.peakBytes);
  });
});

describe("a card that is a fifth too small", () => {
  it("gets less stored or a smaller batch, or is refused with what would help; nothing is left behind", async () => {
    const { plannedBytes, maxTokens } = await trained([...BARE, "gradient_checkpointing=false"], null);
    const smaller = await trained(BARE, 0.8 * cardFor(plannedBytes));
    expect([smaller.stored, smaller.maxTokens]).not.toEqual(["everything", maxTokens]);
    expectAsPlanned(smaller);
    expect(smaller.plannedBytes).toBeLessThanOrEqual(0.8 * plannedBytes);

    const asked = [...BARE, "gradient_checkpointing=false", `max_tokens_per_batch=${maxTokens}`];
    const { error, output } = await train(asked, 0.8 * cardFor(plannedBytes));
    expect(error).toBeInstanceOf(DeviceError);
    expect(error?.message).toMatch(
      /^the run needs .* keeping all activations with 2048 tokens in a GPU batch, and .* may be used: max_tokens_per_batch=\d+ saves \d+\.\d MB(,| or) gradient_checkpointing=true saves \d+\.\d MB/,
    );
    expect(existsSync(output)).toBe(false);
  });
});

describe("memory that is not there all the same", () => {
  // The plan is made for the card, and the device given less.
  it.each([
    ["while the model is loaded", 0.01],
    ["while buffers are made", 0.5],
  ])("%s: exit code 3, byte counts, plan and remedies, and the output folder is free", async (_, share) => {
    const settings = [...BARE, "max_tokens_per_batch=2048"];
    const { plannedBytes } = await trained(settings, null);
    limitShare = share;
    const { error, output } = await train(settings, cardFor(plannedBytes));
    limitShare = 1;
    expect(error).toBeInstanceOf(DeviceError);
    expect(error).toMatchObject({ exitCode: 3 });
    expect(error?.message).toMatch(
      /^the GPU is out of memory: .* needs \d+ bytes, \d+ of \d+ are taken; planned were \d+\.\d MB, keeping .* tokens in a GPU batch; max_tokens_per_batch=\d+ saves \d+\.\d MB(,| or) gradient_checkpointing=true saves \d+\.\d MB/,
    );
    expect(existsSync(output)).toBe(false);
  });

  it("in the first step: the next run may have the same folder", async () => {
    const output = join(folder, "first-step");
    isFull = () => existsSync(join(output, "config.yaml"));
    const { error } = await train(BARE, null, "f32", output);
    isFull = () => false;
    expect(error).toMatchObject({ exitCode: 3 });
    expect(error?.message).toMatch(/9 of 9 are taken; planned were .* saves \d+\.\d MB$/);
    expect(existsSync(output)).toBe(false);
    expect((await train(BARE, null, "f32", output)).error).toBeUndefined();
  });

  it("in a later step: the message and run.json say what there is", async () => {
    const output = join(folder, "later-step");
    const metrics = join(output, "metrics.jsonl");
    isFull = () => existsSync(metrics) && readFileSync(metrics, "utf8") !== "";
    const { error } = await train([...BARE, "num_train_epochs=4"], null, "f32", output);
    isFull = () => false;
    expect(error).toMatchObject({ exitCode: 3 });
    expect(error?.message).toMatch(
      /; planned were .* saves .*; it ended after step (\d) of 8; .*later-step holds config\.yaml, metrics\.jsonl, performance\.jsonl, run\.json: no step was saved, /,
    );
    const { status, error: said } = JSON.parse(readFileSync(join(output, "run.json"), "utf8"));
    expect({ status, said }).toEqual({ status: "failed", said: error?.message });
  });
});
