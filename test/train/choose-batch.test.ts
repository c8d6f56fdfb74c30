import { describe, expect, it } from "vitest";
import { DeviceError, OutOfMemoryError } from "../../src/errors.ts";
import { planningAdapter } from "../../src/plan/adapters.ts";
import { MODEL_SHAPES } from "../../src/plan/model-shapes.ts";
import { type Asked, chooseBatch } from "../../src/train/choose-batch.ts";
import { withAdvice } from "../../src/train/out-of-memory.ts";
import { findRemedies } from "../../src/train/remedies.ts";
import { type RunShape, simulate } from "../../src/train/simulate.ts";
import { PROJECTIONS } from "../../src/weights/projections.ts";

// What the planner chooses for the book's recipe: rank 32 on all projections, 8-bit AdamW.

const RECIPE: Omit<RunShape, "model"> = {
  adapter: planningAdapter("f16"),
  formatOf: () => "f16",
  in4Bit: false,
  lora: { r: 32, loraAlpha: 32, useRslora: false, targetModules: PROJECTIONS },
  optimizer: { optim: "adamw_8bit", beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01, maxGradNorm: 1 },
  maxPositions: 1024,
  divergence: false,
  samplePositions: 384,
  merges: true,
};
const LLAMA_8B: RunShape = { ...RECIPE, model: MODEL_SHAPES["8b"]! };
const LLAMA_1B: RunShape = { ...RECIPE, model: MODEL_SHAPES["1b"]! };
/** Sixteen pairs of 1,024 tokens in a step. */
const BOUNDS = { needed: 1024, limit: 37_448, what: "the longest pair", perStep: 16 * 1024 };
const NOTHING_ASKED: Asked = { maxTokens: undefined, checkpointing: undefined };

describe("Llama-3.1-8B", () => {
  it.each([
    [80e9, "everything"],
    [28e9, "without gate and up"],
    [22e9, "layer inputs"],
  ])("in %d bytes keeps %s", (memoryBytes, stored) => {
    const { choice, simulation, reasons } = chooseBatch(LLAMA_8B, BOUNDS, NOTHING_ASKED, memoryBytes);
    expect(choice.stored).toBe(stored);
    expect(choice.maxTokens).toBeGreaterThanOrEqual(2048);
    expect(simulation.peakBytes).toBeLessThanOrEqual(memoryBytes);
    expect(reasons.join("\n")).toContain(`with ${choice.maxTokens} tokens in a GPU batch`);
  });

  it("uses what there is: a batch of the chosen kind that is a tenth larger does not fit", () => {
    const { choice } = chooseBatch(LLAMA_8B, BOUNDS, NOTHING_ASKED, 22e9);
    const larger = { ...choice, maxTokens: Math.ceil(choice.maxTokens * 1.1) };
    expect(simulate(LLAMA_8B, larger).peakBytes).toBeGreaterThan(22e9);
  });

  it("in 4 bits trains within 10 GB", () => {
    const { simulation } = chooseBatch({ ...LLAMA_8B, in4Bit: true }, BOUNDS, NOTHING_ASKED, 10e9);
    expect(simulation.peakBytes).toBeLessThanOrEqual(10e9);
  });

  it("does not fit into 16 GB, and says what it needs and what would help", () => {
    const choose = () => chooseBatch(LLAMA_8B, BOUNDS, NOTHING_ASKED, 16e9);
    expect(choose).toThrow(DeviceError);
    expect(choose).toThrow(
      /^the run needs 18\.\d\d GB of GPU memory, keeping only the inputs of the layers with 1024 tokens in a GPU batch, and 16\.00 GB may be used: load_in_4bit=true saves 10\.\d\d GB or max_length=512 saves \d{3}\.\d MB$/,
    );
  });

  it("does not fit into 4 GB, and says that nothing would help", () => {
    expect(() => chooseBatch(LLAMA_8B, BOUNDS, NOTHING_ASKED, 4e9)).toThrow(
      /saves .*; with all that can be done it needs 7\.\d\d GB, so take a larger GPU or a smaller model$/,
    );
  });
});

it("Llama-3.2-1B trains within 6 GB", () => {
  const { simulation } = chooseBatch(LLAMA_1B, BOUNDS, NOTHING_ASKED, 6e9);
  expect(simulation.peakBytes).toBeLessThanOrEqual(6e9);
});

describe("a batch of a step that is divided", () => {
  it.each([1000, 1024, 1365, 1366, 2048, 2049, 2731, 8191])("has room for one pair of %d more", (pair) => {
    const bounds = { ...BOUNDS, needed: pair, perStep: 16 * pair };
    const { choice } = chooseBatch(LLAMA_1B, bounds, NOTHING_ASKED, 1e12);
    const batches = Math.ceil(16 / Math.floor(choice.maxTokens / pair));
    expect(batches).toBeLessThanOrEqual(Math.ceil((16 * pair) / 8192));
  });
});

describe("what is asked for", () => {
  it("holds: max_tokens_per_batch", () => {
    const { choice } = chooseBatch(LLAMA_1B, BOUNDS, { ...NOTHING_ASKED, maxTokens: 1500 }, 80e9);
    expect(choice).toEqual({ maxTokens: 1500, stored: "everything" });
  });

  it.each([
    [true, "layer inputs"],
    [false, "everything"],
  ])("holds: gradient_checkpointing %s", (checkpointing, stored) => {
    for (const memoryBytes of [null, 80e9]) {
      const { choice } = chooseBatch(LLAMA_1B, BOUNDS, { ...NOTHING_ASKED, checkpointing }, memoryBytes);
      expect(choice.stored).toBe(stored);
    }
  });

  it("is refused where it does not fit, with the largest batch that does", () => {
    const choose = (maxTokens: number | undefined) =>
      chooseBatch(LLAMA_1B, BOUNDS, { maxTokens, checkpointing: false }, 6e9);
    let message = "";
    try {
      choose(8192);
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message).toMatch(
      /: max_tokens_per_batch=\d+ saves \d+\.\d\d GB, gradient_checkpointing=true saves \d+\.\d\d GB or load_in_4bit=true saves /,
    );
    const fewer = Number(/max_tokens_per_batch=(\d+)/.exec(message)?.[1]);
    expect(fewer).toBeGreaterThan(1024);
    expect(choose(fewer).simulation.peakBytes).toBeLessThanOrEqual(6e9);
    expect(() => choose(Math.ceil(fewer * 1.1))).toThrow(DeviceError);
  });
});

describe("remedies", () => {
  it("save what they say", () => {
    const choice = { maxTokens: 4096, stored: "everything" } as const;
    const before = simulate(LLAMA_1B, choice).peakBytes;
    const { found } = findRemedies(LLAMA_1B, choice, { neededTokens: 1024, fewerTokens: 2048 });
    expect(found).toEqual([
      {
        setting: "max_tokens_per_batch=2048",
        savedBytes: before - simulate(LLAMA_1B, { ...choice, maxTokens: 2048 }).peakBytes,
      },
      {
        setting: "gradient_checkpointing=true",
        savedBytes: before - simulate(LLAMA_1B, { ...choice, stored: "layer inputs" }).peakBytes,
      },
      {
        setting: "load_in_4bit=true",
        savedBytes: before - simulate({ ...LLAMA_1B, in4Bit: true }, choice).peakBytes,
      },
    ]);
  });

  it("end a run that is out of memory, with its plan and what it leaves", () => {
    const chosen = chooseBatch(LLAMA_1B, BOUNDS, { maxTokens: 4096, checkpointing: undefined }, 80e9);
    const outOfMemory = new OutOfMemoryError("the GPU is out of memory: x needs 32 bytes, 1 of 2 are taken");
    const ending = withAdvice(outOfMemory, chosen, "it ended after step 3 of 4");
    expect(ending).toBeInstanceOf(DeviceError);
    expect((ending as DeviceError).exitCode).toBe(3);
    expect((ending as DeviceError).message).toMatch(
      /^the GPU is out of memory: x needs 32 bytes, 1 of 2 are taken; planned were \d+\.\d\d GB, keeping all activations with 4096 tokens in a GPU batch; max_tokens_per_batch=2048 saves \d.*, gradient_checkpointing=true saves .* or load_in_4bit=true saves .*; it ended after step 3 of 4$/,
    );
    expect(withAdvice(ending, chosen)).toBe(ending); // Once is enough.
  });
});

describe("an unknown memory", () => {
  it("gets the usual batch, or what the longest pair needs", () => {
    expect(chooseBatch(LLAMA_1B, BOUNDS, NOTHING_ASKED, null).choice.maxTokens).toBe(2048);
    const { choice, reasons } = chooseBatch(LLAMA_1B, { ...BOUNDS, needed: 3000 }, NOTHING_ASKED, null);
    expect(choice.maxTokens).toBe(3000);
    expect(reasons.at(-1)).toBe("3000 tokens in a GPU batch, as the longest pair needs, keeping all activations");
    expect(chooseBatch(LLAMA_1B, { ...BOUNDS, limit: 1200 }, NOTHING_ASKED, null).choice.maxTokens).toBe(1200);
  });
});
