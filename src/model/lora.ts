import type { Gpu } from "../gpu/gpu.ts";
import { createMatrix, type Matrix, padded } from "../ops/matrix.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";
import type { LoraAdapter } from "../weights/peft-adapter.ts";
import type { LoraSettings } from "../weights/peft-config.ts";
import { PROJECTIONS, type Projection, projectionModule, projectionSize } from "../weights/projections.ts";

/** y = W x + scale · B (A x): A (r, in), B (out, r)  (Hu et al. 2021, equation 3). */
export interface LoraFactors {
  readonly a: Matrix;
  readonly b: Matrix;
}

/** The factors of a layer's adapted projections, or their gradients. */
export type LayerFactors = Readonly<Partial<Record<Projection, LoraFactors>>>;

/** An adapter on the GPU. */
export interface LoraBuffers {
  readonly settings: LoraSettings;
  readonly layers: readonly LayerFactors[];
}

/** Zero-filled factors for the chosen projections of every layer. */
export function createLoraBuffers(gpu: Gpu, config: LlamaConfig, settings: LoraSettings): LoraBuffers {
  return { settings, layers: createFactors(gpu, config, settings, "") };
}

/** Zero-filled sums of the factors' gradients over an optimizer step. */
export function createLoraGradients(gpu: Gpu, config: LlamaConfig, settings: LoraSettings): readonly LayerFactors[] {
  return createFactors(gpu, config, settings, " gradient");
}

function createFactors(gpu: Gpu, config: LlamaConfig, { r, targetModules }: LoraSettings, suffix: string) {
  return Array.from({ length: config.layers }, (_, layer): LayerFactors => {
    const factors: Partial<Record<Projection, LoraFactors>> = {};
    for (const projection of PROJECTIONS) {
      if (!targetModules.includes(projection)) continue;
      const { inFeatures, outFeatures } = projectionSize(config, projection);
      const label = `layer ${layer} ${projection}`;
      factors[projection] = {
        a: createMatrix(gpu, `${label} lora_A${suffix}`, r, inFeatures),
        b: createMatrix(gpu, `${label} lora_B${suffix}`, outFeatures, r),
      };
    }
    return factors;
  });
}

export interface NamedFactor {
  readonly layer: number;
  readonly projection: Projection;
  readonly factor: "a" | "b";
  readonly matrix: Matrix;
}

/** Every factor, in the fixed order in which gradients are summed and states are kept. */
export function* eachFactor(layers: readonly LayerFactors[]): Generator<NamedFactor> {
  for (const [layer, factors] of layers.entries()) {
    for (const projection of PROJECTIONS) {
      const pair = factors[projection];
      if (!pair) continue;
      yield { layer, projection, factor: "a", matrix: pair.a };
      yield { layer, projection, factor: "b", matrix: pair.b };
    }
  }
}

/** `layers.3.self_attn.q_proj.lora_A`, as PEFT names it behind the model's own prefix. */
export function factorName({
  layer,
  projection,
  factor,
}: Pick<NamedFactor, "layer" | "projection" | "factor">): string {
  return `layers.${layer}.${projectionModule(projection)}.${projection}.lora_${factor.toUpperCase()}`;
}

/** Copies an adapter's factors to the GPU. */
export function uploadAdapter(gpu: Gpu, config: LlamaConfig, adapter: LoraAdapter): LoraBuffers {
  const { r, loraAlpha, useRslora, targetModules } = adapter;
  const buffers = createLoraBuffers(gpu, config, { r, loraAlpha, useRslora, targetModules });
  for (const { layer, projection, factor, matrix } of eachFactor(buffers.layers)) {
    writeMatrix(gpu, matrix, adapter.layers[layer]![projection]![factor]);
  }
  return buffers;
}

/** Writes a dense (rows × cols) array into a padded matrix. */
export function writeMatrix(gpu: Gpu, matrix: Matrix, values: Float32Array): void {
  const { rows, cols, range } = matrix;
  if (values.length !== rows * cols) throw new Error(`internal: ${values.length} values for ${range.buffer.label}`);
  const stride = padded(cols);
  const laidOut = new Float32Array(padded(rows) * stride);
  for (let row = 0; row < rows; row++) laidOut.set(values.subarray(row * cols, (row + 1) * cols), row * stride);
  gpu.write(range.buffer, range.offsetBytes, laidOut);
}

/** Reads padded matrices back as dense (rows × cols) arrays, in one round trip. */
export async function readMatrices(gpu: Gpu, matrices: readonly Matrix[]): Promise<Float32Array<ArrayBuffer>[]> {
  const copies = await gpu.read(...matrices.map((matrix) => matrix.range));
  return matrices.map(({ rows, cols }, i) => {
    const laidOut = new Float32Array(copies[i]!);
    const stride = padded(cols);
    const values = new Float32Array(rows * cols);
    for (let row = 0; row < rows; row++) values.set(laidOut.subarray(row * stride, row * stride + cols), row * cols);
    return values;
  });
}
