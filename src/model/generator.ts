import { DeviceError } from "../errors.ts";
import { type BufferRange, type GpuBuffer, totalBytes, wholeBuffer } from "../gpu/buffer.ts";
import { type Command, type Recorded, record } from "../gpu/commands.ts";
import { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { embedding, gatherRows } from "../ops/elementwise.ts";
import { matmulNT } from "../ops/matmul.ts";
import { createMatrix, type Matrix, matrixBytes, PADDING, padded } from "../ops/matrix.ts";
import { rmsNormForward } from "../ops/norm.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";
import { loraScale } from "../weights/peft-config.ts";
import { ActivationAllocator } from "./activations.ts";
import type { BaseWeights } from "./base-weights.ts";
import { type KeyValueCache, type Layer, layerForward, type PassContext } from "./layer.ts";
import type { LayerFactors, LoraBuffers } from "./lora.ts";
import { ropeTable } from "./rope-table.ts";

export interface GeneratorOptions {
  readonly gpu: Gpu;
  readonly weights: BaseWeights;
  /** Null for the base alone. */
  readonly adapter: LoraBuffers | null;
  /** Tokens that the cache has room for. */
  readonly maxPositions: number;
  /** Tokens that go through the model together, {@link PREFILL_TOKENS} if not given. */
  readonly prefillTokens?: number;
}

/** Enough rows to make good use of each weight that is read, few enough for the activations to stay small. */
const PREFILL_TOKENS = 128;

/**
 * Llama that continues a text, with a key-value cache and activations that all layers share. Weights and adapter may be
 * shared with a PairModel and are read as they are at each call; everything else it owns until `destroy`.
 *
 * The cache takes 8 · layers · positions · keyValueHeads · headDim bytes: 256 KiB for each position of Llama 3.1 8B.
 */
export class Generator {
  readonly maxPositions: number;
  /** Bytes of all the buffers that it owns. */
  readonly sizeBytes: number;
  readonly #gpu: Gpu;
  readonly #plan: Plan;
  readonly #buffers: readonly GpuBuffer[];
  /** The layers for the next single token, encoded while the GPU works on the last one. */
  #nextStep: Recorded | null = null;
  #length = 0;
  #isDestroyed = false;

  /** @throws DeviceError when the cache exceeds what the adapter can bind */
  constructor(options: GeneratorOptions) {
    const { gpu, weights, maxPositions } = options;
    requireBindable(gpu, weights.config, maxPositions);
    this.#gpu = gpu;
    this.maxPositions = maxPositions;
    const { value, buffers } = gpu.collect(() => createPlan(options));
    this.#plan = value;
    this.#buffers = buffers;
    this.sizeBytes = totalBytes(buffers);
  }

  /** Tokens in the cache. */
  get length(): number {
    return this.#length;
  }

  /** Empties the cache: the next token begins a text. */
  reset(): void {
    this.#length = 0;
  }

  /**
   * Appends tokens to the text: in chunks, a single one with kernels of its own. Returns the logits of the token that
   * follows the last of them, (vocabulary) f32.
   */
  async append(tokens: readonly number[]): Promise<Float32Array> {
    this.#requireRoomFor(tokens.length);
    const gpu = this.#gpu;
    const { chunk, logits, head } = this.#plan;
    await gpu.pipelines.ready();
    const readback = gpu.readback({ ...logits.range, sizeBytes: logits.cols * 4, isRewritten: true });
    for (let done = 0; done < tokens.length; ) {
      const rows = Math.min(chunk.max, tokens.length - done);
      this.#writeRows(tokens.slice(done, done + rows));
      const recorded = [this.#recordLayers(rows)];
      done += rows;
      if (done === tokens.length) recorded.push(record(gpu, "next token", head, readback));
      gpu.submit(...recorded);
      this.#length += rows;
    }
    this.#nextStep ??= this.#record(this.#plan.decode);
    const [copy] = await readback.finish();
    return new Float32Array(copy!);
  }

  /** Releases its buffers. Weights and adapter stay. */
  destroy(): void {
    this.#isDestroyed = true;
    this.#nextStep = null;
    for (const buffer of this.#buffers) this.#gpu.release(buffer);
    this.#gpu.releaseStaging();
  }

  #requireRoomFor(tokens: number): void {
    if (this.#isDestroyed) throw new Error("internal: a generator was used after it was destroyed");
    if (tokens === 0) throw new Error("internal: no tokens to append");
    if (this.#length + tokens > this.maxPositions) {
      throw new Error(`internal: ${tokens} tokens after ${this.#length} in a cache for ${this.maxPositions}`);
    }
  }

  /** What the kernels need to know of the next rows of the text. */
  #writeRows(tokens: readonly number[]): void {
    const { tokens: tokensRange, positions, visible, headRow } = this.#plan;
    const first = this.#length;
    const gpu = this.#gpu;
    gpu.write(tokensRange.buffer, 0, Uint32Array.from(tokens));
    gpu.write(
      positions.buffer,
      0,
      Uint32Array.from(tokens, (_, row) => first + row),
    );
    gpu.write(visible.buffer, 0, Uint32Array.from(tokens.flatMap((_, row) => [0, 0, 0, first + row + 1])));
    gpu.write(headRow.buffer, 0, new Uint32Array([tokens.length - 1]));
  }

  #recordLayers(rows: number): Recorded {
    const { chunk, prefill, decode } = this.#plan;
    if (rows > 1) {
      chunk.set(rows);
      return this.#record(prefill);
    }
    const step = this.#nextStep ?? this.#record(decode);
    this.#nextStep = null;
    return step;
  }

  #record(commands: readonly Command[]): Recorded {
    return record(this.#gpu, "text", commands);
  }
}

interface Plan {
  /** Rows of a chunk. */
  readonly chunk: RowCount;
  /** (chunk) u32. */
  readonly tokens: BufferRange;
  readonly positions: BufferRange;
  /** (chunk, 4) u32: the rows of the cache that each row sees, as attention takes them. */
  readonly visible: BufferRange;
  /** (1) u32: the row whose logits are wanted. */
  readonly headRow: BufferRange;
  readonly logits: Matrix;
  /** The layers over a chunk, and over a single token. */
  readonly prefill: readonly Command[];
  readonly decode: readonly Command[];
  /** From the last layer's output to the logits. */
  readonly head: readonly Command[];
}

function createPlan({ gpu, weights, adapter, maxPositions, prefillTokens = PREFILL_TOKENS }: GeneratorOptions): Plan {
  const { config } = weights;
  const chunkTokens = Math.min(prefillTokens, maxPositions, bindableRows(gpu, config));
  const words = (label: string, count: number) => wholeBuffer(gpu.buffer(label, count * 4));
  const tokens = words("tokens", chunkTokens);
  const positions = words("positions", chunkTokens);
  const visible = words("visible rows", 4 * chunkTokens);
  const headRow = words("head row", 1);
  const table = ropeTable(config, maxPositions);
  const tableBuffer = gpu.buffer("rope table", table.byteLength);
  gpu.write(tableBuffer, 0, table);
  const caches = weights.layers.map((_, layer): KeyValueCache => {
    const cache = (name: string) =>
      createMatrix(gpu, `layer ${layer} ${name} cache`, maxPositions, config.keyValueHeads * config.headDim);
    return { k: cache("key"), v: cache("value") };
  });

  const allocate = new ActivationAllocator(gpu, config, chunkTokens);
  const x = allocate.hidden("residual stream");
  const [activations] = allocate.layers([x], adapter?.settings ?? null, "everything");
  const scratch = allocate.forwardScratch(null);
  const layersOver = (count: RowCount): Command[] => {
    const context: PassContext = {
      gpu,
      config,
      count,
      positions,
      visible,
      ropeTable: wholeBuffer(tableBuffer),
      tensorAttention: null,
    };
    return [
      ...embedding(gpu, { count, tokens, w: weights.embedding, x }),
      ...weights.layers.flatMap((layerWeights, i) => {
        const lora = adapter && { factors: adapter.layers[i] as LayerFactors, scale: loraScale(adapter.settings) };
        const layer: Layer = { weights: layerWeights, activations: activations!, lora };
        return layerForward(context, layer, scratch, x, caches[i]);
      }),
    ];
  };
  const chunk = new RowCount(gpu, "chunk", chunkTokens);
  const one = new RowCount(gpu, "one row", 1);
  one.set(1);

  const last = createMatrix(gpu, "last row", 1, config.hiddenSize);
  const hidden = createMatrix(gpu, "last row after the final norm", 1, config.hiddenSize);
  const rstd = words("last rstd", 1);
  const logits: Matrix = { range: words("logits", padded(config.vocabSize)), rows: 1, cols: config.vocabSize };
  return {
    chunk,
    tokens,
    positions,
    visible,
    headRow,
    logits,
    prefill: layersOver(chunk),
    decode: layersOver(one),
    head: [
      ...gatherRows(gpu, { count: one, rows: headRow, x, y: last }),
      ...rmsNormForward(gpu, { count: one, x: last, w: weights.finalNorm, eps: config.rmsNormEps, y: hidden, rstd }),
      ...matmulNT(gpu, { count: one, x: hidden, w: weights.head, y: logits }),
    ],
  };
}

/** Rows of the widest activation that one binding can hold. */
function bindableRows(gpu: Gpu, { hiddenSize, intermediateSize, heads, headDim }: LlamaConfig): number {
  const rowBytes = matrixBytes(1, Math.max(hiddenSize, intermediateSize, heads * headDim)) / PADDING;
  return Math.max(PADDING, Math.floor(gpu.bindingLimitBytes / rowBytes / PADDING) * PADDING);
}

function requireBindable(gpu: Gpu, { keyValueHeads, headDim }: LlamaConfig, maxPositions: number): void {
  const sizeBytes = matrixBytes(maxPositions, keyValueHeads * headDim);
  if (sizeBytes <= gpu.bindingLimitBytes) return;
  throw new DeviceError(
    `a text of ${maxPositions} tokens needs ${sizeBytes} bytes for the keys of a layer, this adapter allows ` +
      `${gpu.bindingLimitBytes} in one binding; ask for a shorter answer`,
  );
}
