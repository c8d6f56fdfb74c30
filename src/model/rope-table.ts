import type { LlamaConfig, RopeScaling } from "../weights/llama-config.ts";

/**
 * (cos, sin) of every position and pair: (positions, headDim / 2, 2) f32.
 *
 * The angle is rounded to f32 as PyTorch rounds it (inverse frequency in f32, times the position in f32), so that our
 * tables equal transformers' to half a unit in the last place of 1; sine and cosine themselves are taken in float64,
 * because WGSL promises only 2^-11 of them.
 */
export function ropeTable(config: LlamaConfig, positions: number): Float32Array<ArrayBuffer> {
  const frequencies = inverseFrequencies(config);
  const half = frequencies.length;
  const table = new Float32Array(positions * half * 2);
  for (let position = 0; position < positions; position++) {
    for (let d = 0; d < half; d++) {
      const angle = Math.fround(frequencies[d]! * position);
      const at = (position * half + d) * 2;
      table[at] = Math.cos(angle);
      table[at + 1] = Math.sin(angle);
    }
  }
  return table;
}

const f32 = Math.fround;

/**
 * θ^(−2d/D) for each pair d (Su et al. 2021, section 3.2.2), with Llama 3's scaling where the model has it: (headDim / 2).
 * Every operation is rounded to f32 where transformers rounds it: at position 100,000 the last digit of a frequency is
 * the third of a cosine.
 */
export function inverseFrequencies({
  rope,
  headDim,
}: Pick<LlamaConfig, "rope" | "headDim">): Float32Array<ArrayBuffer> {
  const frequencies = new Float32Array(headDim / 2);
  for (let d = 0; d < frequencies.length; d++) {
    const frequency = f32(1 / f32(rope.theta ** f32((2 * d) / headDim)));
    frequencies[d] = rope.scaling ? scaleLlama3(frequency, rope.scaling) : frequency;
  }
  return frequencies;
}

/**
 * Llama 3.1's context extension: wavelengths over the original context are stretched by `factor`, short ones are kept,
 * those between are blended. As in transformers' `_compute_llama3_parameters`, where PyTorch divides a number by a tensor
 * as the number times the tensor's reciprocal.
 */
function scaleLlama3(frequency: number, scaling: RopeScaling): number {
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings: context } = scaling;
  const wavelength = f32(f32(1 / frequency) * f32(2 * Math.PI));
  if (wavelength < context / highFreqFactor) return frequency;
  if (wavelength > context / lowFreqFactor) return f32(frequency / factor);
  const turnsInContext = f32(f32(1 / wavelength) * context);
  const smooth = f32(f32(turnsInContext - lowFreqFactor) / f32(highFreqFactor - lowFreqFactor));
  return f32(f32(f32(f32(1 - smooth) * frequency) / factor) + f32(smooth * frequency));
}
