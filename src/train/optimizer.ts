import { wholeBuffer } from "../gpu/buffer.ts";
import { type Command, clear, record } from "../gpu/commands.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { eachFactor, factorName, type LayerFactors } from "../model/lora.ts";
import type { Matrix } from "../ops/matrix.ts";
import {
  adamW,
  adamW8,
  clipScale,
  createMoments8,
  createMoments32,
  type Moments8,
  type Moments32,
  partialCount,
  partialsOf,
  squareSums,
} from "../ops/optimizer.ts";
import { dynamicMaps } from "../weights/dynamic-map.ts";

export interface OptimizerSettings {
  readonly optim: "adamw" | "adamw_8bit";
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
  /** The gradient is scaled down to this L2 norm; 0 for no clipping. */
  readonly maxGradNorm: number;
}

export interface Update {
  /** The global L2 norm of the gradient, before clipping. */
  readonly gradNorm: number;
  /** False where that norm is not finite: then no parameter and no moment was changed. */
  readonly applied: boolean;
}

export interface Optimizer {
  /**
   * Updates the parameters with the summed gradients and sets these to zero. `step` counts from 1. The GPU is not waited
   * for: the promise resolves once it gets there.
   */
  readonly update: (step: number, learningRate: number) => Promise<Update>;
  /** The factor whose gradient was the first that is not finite, after an update that was not applied for that. */
  readonly nonFiniteGradient: () => Promise<string>;
  /** Every moment in the order of `eachFactor`. */
  readonly moments: readonly (Moments32 | Moments8)[];
}

/** Below this many elements bitsandbytes keeps a tensor's moments in f32 (`min_8bit_size`). */
const MIN_8BIT_ELEMENTS = 4096;

/** AdamW on the GPU, with clipping by the global norm. */
export function createOptimizer(
  gpu: Gpu,
  parameters: readonly LayerFactors[],
  gradients: readonly LayerFactors[],
  settings: OptimizerSettings,
): Optimizer {
  const named = [...eachFactor(parameters)];
  const sums = [...eachFactor(gradients)].map(({ matrix }) => matrix);
  const partials = partialCount(sums);
  const partialsRange = wholeBuffer(gpu.buffer("gradient norm partials", partials * 4));
  const clip = wholeBuffer(gpu.buffer("gradient clip", 16));
  const step = gpu.uniform("optimizer step", new Uint32Array(stepWords(settings, 1, 0).length));
  const codeValues = dynamicMaps();
  const code = wholeBuffer(gpu.buffer("dynamic maps", codeValues.byteLength));
  gpu.write(code.buffer, 0, codeValues);

  const commands: Command[] = [
    ...squareSums(gpu, sums, partialsRange),
    ...clipScale(gpu, { step, partials: partialsRange, partialCount: partials, clip }),
  ];
  const moments = named.map(({ layer, projection, factor, matrix }, i): Moments32 | Moments8 => {
    const label = `layer ${layer} ${projection} lora_${factor.toUpperCase()}`;
    const op = { step, clip, gradient: sums[i] as Matrix, parameter: matrix };
    if (settings.optim === "adamw_8bit" && matrix.rows * matrix.cols >= MIN_8BIT_ELEMENTS) {
      const state = createMoments8(gpu, label, matrix);
      commands.push(...adamW8(gpu, { ...op, moments: state, code }));
      return state;
    }
    const state = createMoments32(gpu, label, matrix);
    commands.push(...adamW(gpu, { ...op, moments: state, decayLast: settings.optim === "adamw_8bit" }));
    return state;
  });
  for (const sum of sums) commands.push(clear(sum.range));

  return {
    moments,
    update: async (stepNumber, learningRate) => {
      gpu.write(step, 0, stepWords(settings, stepNumber, learningRate));
      const readback = gpu.readback({ ...clip, isRewritten: true });
      gpu.submit(record(gpu, "update", commands, readback));
      const [result] = await readback.finish();
      const [gradNorm, , finite] = new Float32Array(result!);
      return { gradNorm: gradNorm!, applied: finite === 1 };
    },
    nonFiniteGradient: async () => {
      const [words] = await gpu.read(partialsRange);
      const found = new Float32Array(words!).subarray(0, partials).findIndex((sum) => !Number.isFinite(sum));
      let end = 0;
      const owner = named.find((_, i) => {
        end += partialsOf(sums[i]!);
        return found < end;
      });
      // Each may be finite by itself, and only their sum overflow.
      return found < 0 || !owner ? "all tensors together" : factorName(owner);
    },
  };
}

/**
 * The uniform `Step` of kernels/library/step.wgsl. 1 − β is taken in float64 as PyTorch does, but for the 8-bit optimizer
 * in f32 as bitsandbytes does: 1 − 0.999 differs between the two by 5e-5 of itself.
 */
function stepWords(settings: OptimizerSettings, step: number, learningRate: number): Float32Array<ArrayBuffer> {
  const { optim, epsilon, weightDecay, maxGradNorm } = settings;
  const round = optim === "adamw_8bit" ? Math.fround : (value: number) => value;
  const [beta1, beta2] = [round(settings.beta1), round(settings.beta2)];
  return Float32Array.of(
    beta1,
    round(1 - beta1),
    beta2,
    round(1 - beta2),
    epsilon,
    Math.sqrt(1 - beta2 ** step),
    learningRate / (1 - beta1 ** step),
    1 - learningRate * weightDecay,
    maxGradNorm,
    0,
    0,
    0,
  );
}
