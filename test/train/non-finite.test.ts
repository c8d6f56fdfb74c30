import { describe, expect, it } from "vitest";
import { createLoraBuffers, createLoraGradients, eachFactor, factorName, writeMatrix } from "../../src/model/lora.ts";
import { describeWeights, findNonFiniteWeight } from "../../src/train/non-finite.ts";
import { createOptimizer } from "../../src/train/optimizer.ts";
import { parseLlamaConfig } from "../../src/weights/llama-config.ts";
import { useDevice } from "../device.ts";
import { TINY_CONFIG } from "../weights/fixtures.ts";

const device = useDevice();
const CONFIG = parseLlamaConfig(JSON.stringify(TINY_CONFIG), "config.json");
const LORA = { r: 3, loraAlpha: 6, useRslora: false, targetModules: ["q_proj", "down_proj"] } as const;
const SETTINGS = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, maxGradNorm: 1 };

function adapter() {
  const settings = { ...LORA, targetModules: [...LORA.targetModules] };
  return createLoraBuffers(device.gpu, CONFIG, settings);
}

describe("of a gradient that is not finite the tensor is named", () => {
  it.each(["adamw", "adamw_8bit"] as const)("with %s, whichever it is, and nothing is updated", async (optim) => {
    const { gpu } = device;
    const { layers, settings } = adapter();
    const gradients = createLoraGradients(gpu, CONFIG, settings);
    const optimizer = createOptimizer(gpu, layers, gradients, { optim, ...SETTINGS });
    await gpu.pipelines.ready();
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
      for (const factor of eachFactor(gradients)) {
        const { rows, cols } = factor.matrix;
        writeMatrix(gpu, factor.matrix, new Float32Array(rows * cols).fill(1).fill(value, rows * cols - 1));
        expect(await optimizer.update(1, 1e-3)).toMatchObject({ applied: false });
        expect(await optimizer.nonFiniteGradient()).toBe(factorName(factor));
      }
    }
    expect(await findNonFiniteWeight(gpu, { layers, settings })).toBe(null);
  });

  it("or all of them, where only their sum is too large", async () => {
    const { gpu } = device;
    const { layers, settings } = adapter();
    const gradients = createLoraGradients(gpu, CONFIG, settings);
    const optimizer = createOptimizer(gpu, layers, gradients, { optim: "adamw", ...SETTINGS });
    await gpu.pipelines.ready();
    for (const { matrix } of eachFactor(gradients)) {
      writeMatrix(gpu, matrix, new Float32Array(matrix.rows * matrix.cols).fill(1.8e19, 0, 1));
    }
    expect(await optimizer.update(1, 1e-3)).toMatchObject({ applied: false });
    expect(await optimizer.nonFiniteGradient()).toBe("all tensors together");
  });
});

it("of weights that are not finite the first is named", async () => {
  const { gpu } = device;
  const buffers = adapter();
  expect(await describeWeights(gpu, buffers)).toBe("the adapter's weights are finite");
  const factors = [...eachFactor(buffers.layers)];
  for (const { matrix } of factors.slice(1).reverse()) {
    const values = new Float32Array(matrix.rows * matrix.cols);
    values[5] = Number.NEGATIVE_INFINITY;
    writeMatrix(gpu, matrix, values);
  }
  expect(factorName(factors[1]!)).toBe("layers.0.self_attn.q_proj.lora_B");
  expect(await describeWeights(gpu, buffers)).toBe(
    "of the adapter's weights the first that is not finite is in layers.0.self_attn.q_proj.lora_B (-Infinity at element 5)",
  );
});
