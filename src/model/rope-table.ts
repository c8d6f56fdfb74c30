import type { LlamaConfig } from "../weights/llama-config.ts";

/**
 * (cos, sin) of every position and pair: (positions, headDim / 2, 2) f32.
 *
 * The angle is rounded to f32 as PyTorch rounds it (inverse frequency in f32, times the position in f32), so that our
 * tables equal transformers' to the last digit but one; sine and cosine themselves are taken in float64, because WGSL
 * promises only 2^-11 of them.
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

/** θ^(−2d/D) for each pair d (Su et al. 2021, section 3.2.2), with Llama 3's scaling where the model has it. */
function inverseFrequencies(config: LlamaConfig): Float32Array {
  const { theta, scaling } = config.rope;
  const half = config.headDim / 2;
  const frequencies = new Float32Array(half);
  for (let d = 0; d < half; d++) {
    const frequency = 1 / Math.fround(theta ** ((2 * d) / config.headDim));
    frequencies[d] = scaling ? scaleLlama3(frequency, scaling) : frequency;
  }
  return frequencies;
}

/**
 * Llama 3.1's context extension: wavelengths over the original context are stretched by `factor`, short ones are kept,
 * those between are blended. As in transformers' `_compute_llama3_parameters`.
 */
function scaleLlama3(frequency: number, scaling: NonNullable<LlamaConfig["rope"]["scaling"]>): number {
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings: context } = scaling;
  const wavelength = (2 * Math.PI) / frequency;
  if (wavelength < context / highFreqFactor) return frequency;
  if (wavelength > context / lowFreqFactor) return frequency / factor;
  const smooth = (context / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
  return ((1 - smooth) * frequency) / factor + smooth * frequency;
}
