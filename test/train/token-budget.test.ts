import { describe, expect, it } from "vitest";
import { DeviceError, type ExpectedError, InputError } from "../../src/errors.ts";
import { chooseBatch } from "../../src/train/choose-batch.ts";
import type { RunShape } from "../../src/train/simulate.ts";
import { tokenBounds } from "../../src/train/token-budget.ts";
import { ODD_CONFIG } from "../model/tiny-model.ts";
import { lossSettings } from "./loss/helpers.ts";

const SIGMOID = { ...lossSettings({}), ldAlpha: 1 };
const AOT = { ...lossSettings({ lossTypes: ["aot"] }), ldAlpha: 1 };
const PLENTY = { bindingLimitBytes: 2 ** 31 };

/** A run on a device whose memory is not known. */
const RUN: RunShape = {
  adapter: { bindingLimitBytes: 2 ** 31, subgroupSize: 32, fragments: null },
  model: ODD_CONFIG,
  formatOf: () => "f32",
  in4Bit: false,
  lora: { r: 2, loraAlpha: 2, useRslora: false, targetModules: ["q_proj"] },
  optimizer: { optim: "adamw", beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, maxGradNorm: 1 },
  maxPositions: 64,
  divergence: false,
  samplePositions: null,
  merges: false,
};

/** A pair of this many packed rows. */
function pairOf(rows: number) {
  return { promptIds: new Array(rows - 2).fill(1), chosenIds: [1, 2], rejectedIds: [3, 4] };
}

const PAIRS = [40, 100, 7, 90, 60].map(pairOf);

function budget(
  maxTokensPerBatch: number | undefined,
  objective: typeof SIGMOID = SIGMOID,
  limits = PLENTY,
  pairs = PAIRS,
): number {
  const config = {
    max_tokens_per_batch: maxTokensPerBatch,
    per_device_train_batch_size: 3,
    gradient_accumulation_steps: 1,
  };
  const bounds = tokenBounds(pairs, pairs, config, objective, ODD_CONFIG, limits);
  const asked = { maxTokens: maxTokensPerBatch, checkpointing: undefined };
  return chooseBatch(RUN, bounds, asked, null).choice.maxTokens;
}

function errorOf(action: () => unknown): ExpectedError {
  try {
    action();
  } catch (error) {
    return error as ExpectedError;
  }
  throw new Error("nothing was thrown");
}

describe("the token budget", () => {
  it("is 2048, or what the longest pair needs", () => {
    expect(budget(undefined)).toBe(2048);
    expect(budget(undefined, SIGMOID, PLENTY, [pairOf(2048), pairOf(5)])).toBe(2048);
    expect(budget(undefined, SIGMOID, PLENTY, [pairOf(5), pairOf(2049)])).toBe(2049);
  });

  it("is what the config asks for, down to the longest pair", () => {
    expect(budget(5000)).toBe(5000);
    expect(budget(100)).toBe(100);
    const error = errorOf(() => budget(99));
    expect(error).toBeInstanceOf(InputError);
    expect(error.message).toBe("max_tokens_per_batch must be at least 100, which the longest pair needs, got 99");
  });

  it("holds a whole micro-batch of the longest pairs where the loss couples them", () => {
    expect(budget(250, AOT)).toBe(250); // 100 + 90 + 60
    const error = errorOf(() => budget(249, AOT));
    expect(error).toBeInstanceOf(InputError);
    expect(error.message).toBe(
      "max_tokens_per_batch must be at least 250, which a micro-batch of 3 pairs, which aot must see together, needs, got 249",
    );
    expect(budget(undefined, AOT, PLENTY, [1000, 900, 800, 700].map(pairOf))).toBe(2700);
    expect(budget(undefined, AOT, PLENTY, [pairOf(3000)])).toBe(3000); // Fewer pairs than a micro-batch has.
  });

  // The widest activation of ODD_CONFIG is 50 wide, rows of 56 elements.
  const bindingFor = (rows: number) => ({ bindingLimitBytes: rows * 56 * 4 });

  it("keeps every activation, of a multiple of 8 rows, within the binding limit", () => {
    expect(budget(undefined, SIGMOID, bindingFor(111))).toBe(104);
    expect(budget(5000, SIGMOID, bindingFor(112))).toBe(112);
    expect(budget(undefined, SIGMOID, { bindingLimitBytes: 112 * 56 * 4 - 1 })).toBe(104);
  });

  it("is at most the workgroups of a dimension, 65,535", () => {
    expect(budget(10 ** 6)).toBe(65_535);
  });

  it("says which setting to lower where the adapter cannot hold what must be together", () => {
    const alone = errorOf(() => budget(undefined, SIGMOID, bindingFor(99)));
    expect(alone).toBeInstanceOf(DeviceError);
    expect(alone.message).toBe(
      "the longest pair needs 100 tokens in one GPU batch, this adapter allows 96; lower max_length",
    );
    const together = errorOf(() => budget(undefined, AOT, bindingFor(240)));
    expect(together).toBeInstanceOf(DeviceError);
    expect(together.message).toBe(
      "a micro-batch of 3 pairs, which aot must see together, needs 250 tokens in one GPU batch, " +
        "this adapter allows 240; lower max_length or per_device_train_batch_size",
    );
    expect(errorOf(() => budget(70_000, SIGMOID, PLENTY, [pairOf(65_536)])).message).toContain("allows 65535");
  });
});
