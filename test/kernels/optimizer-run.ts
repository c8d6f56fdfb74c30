import type { Gpu } from "../../src/gpu/gpu.ts";
import { readMatrices, writeMatrix } from "../../src/model/lora.ts";
import { createMatrix, type Matrix } from "../../src/ops/matrix.ts";
import type { Moments8, Moments32 } from "../../src/ops/optimizer.ts";
import { createOptimizer, type OptimizerSettings, type Update } from "../../src/train/optimizer.ts";
import { dynamicMap } from "../../src/weights/dynamic-map.ts";
import type { Numbers } from "../numbers.ts";

// Tensors of any shape under the trainer's own optimizer, and what it keeps of them.

export interface Tensor {
  readonly shape: readonly [rows: number, cols: number];
  readonly values: Float32Array;
}

export const SETTINGS: OptimizerSettings = {
  optim: "adamw_8bit",
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.01,
  maxGradNorm: 1,
};

/** One moment as it is stored: a byte for each element, and one absmax for each 256. */
export interface StoredMoment {
  readonly bytes: Uint8Array;
  readonly absmax: Float32Array;
}

/** What is on the GPU of one tensor. */
export type TensorState = { readonly parameter: Float32Array } & (
  | { readonly kind: "f32"; readonly m: Float32Array; readonly v: Float32Array }
  | { readonly kind: "8bit"; readonly m: StoredMoment; readonly v: StoredMoment }
);

export interface TrainedTensors {
  readonly step: (t: number, learningRate: number, gradients: readonly Float32Array[]) => Promise<Update>;
  readonly states: () => Promise<TensorState[]>;
  /** The sums that the next step's gradients are to be added to. */
  readonly sums: () => Promise<Float32Array[]>;
}

/** Puts tensors under the trainer's optimizer. An even number of them, as LoRA's A and B come in pairs. */
export function trainTensors(gpu: Gpu, tensors: readonly Tensor[], settings: OptimizerSettings): TrainedTensors {
  const create = (label: string) => tensors.map(({ shape }, i) => createMatrix(gpu, `${label} ${i}`, ...shape));
  const [parameters, sums] = [create("parameter"), create("gradient")];
  for (const [i, { values }] of tensors.entries()) writeMatrix(gpu, parameters[i]!, values);
  const { update, moments } = createOptimizer(gpu, inPairs(parameters), inPairs(sums), settings);
  return {
    step: async (t, learningRate, gradients) => {
      await gpu.pipelines.ready();
      for (const [i, values] of gradients.entries()) writeMatrix(gpu, sums[i]!, values);
      return update(t, learningRate);
    },
    states: () => Promise.all(parameters.map((parameter, i) => readState(gpu, parameter, moments[i]!))),
    sums: () => readMatrices(gpu, sums),
  };
}

function inPairs(matrices: readonly Matrix[]) {
  if (matrices.length % 2 !== 0) throw new Error(`${matrices.length} tensors are not pairs`);
  return Array.from({ length: matrices.length / 2 }, (_, i) => ({
    q_proj: { a: matrices[2 * i]!, b: matrices[2 * i + 1]! },
  }));
}

async function readState(gpu: Gpu, matrix: Matrix, moments: Moments32 | Moments8): Promise<TensorState> {
  if (moments.kind === "f32") {
    const [parameter, m, v] = await readMatrices(gpu, [matrix, moments.first, moments.second]);
    return { kind: "f32", parameter: parameter!, m: m!, v: v! };
  }
  const [parameter] = await readMatrices(gpu, [matrix]);
  const [m, v, absmax] = await gpu.read(moments.firstBytes, moments.secondBytes, moments.absmax);
  // The buffer is a multiple of 16 bytes: there may be one pair too many.
  const largest = new Float32Array(absmax!).subarray(0, 2 * Math.ceil(parameter!.length / 256));
  return {
    kind: "8bit",
    parameter: parameter!,
    m: { bytes: new Uint8Array(m!), absmax: largest.filter((_, i) => i % 2 === 0) },
    v: { bytes: new Uint8Array(v!), absmax: largest.filter((_, i) => i % 2 === 1) },
  };
}

/** Every number of a state as bits, to compare two of them. */
export function stateBits({ parameter, m, v }: TensorState): Uint8Array[] {
  const bytesOf = (array: ArrayBufferView) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  const parts = [m, v].flatMap((moment) => ("bytes" in moment ? [moment.bytes, moment.absmax] : [moment]));
  return [parameter, ...parts].map(bytesOf);
}

export const SIGNED_MAP = dynamicMap(true);
export const UNSIGNED_MAP = dynamicMap(false);

/** The values that a stored moment stands for. */
export function decoded({ bytes, absmax }: StoredMoment, map: Numbers, length: number): Float64Array {
  return Float64Array.from({ length }, (_, e) => map[bytes[e]!]! * absmax[Math.floor(e / 256)]!);
}
