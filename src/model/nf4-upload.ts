import { type GpuBuffer, wholeBuffer } from "../gpu/buffer.ts";
import { type Command, record } from "../gpu/commands.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { Nf4Piece, type Nf4Weight, nf4Blocks, quantizeAbsmax, quantizeNf4 } from "../ops/nf4.ts";
import type { FloatDtype } from "../weights/half.ts";

/** A tensor on its way into 4 bits: its blocks are quantized as they come, their absmax when the last is there. */
export class Nf4Upload {
  readonly #gpu: Gpu;
  readonly #weight: Nf4Weight;
  readonly #piece: Nf4Piece;
  readonly #absmax: GpuBuffer;
  readonly #owned: readonly GpuBuffer[];
  /** By the staging buffer that holds the piece. */
  readonly #quantize = new Map<GpuBuffer, readonly Command[]>();
  readonly #finish: readonly Command[];
  #elements = 0;

  constructor(gpu: Gpu, weight: Nf4Weight) {
    this.#gpu = gpu;
    this.#weight = weight;
    const { value, buffers } = gpu.collect(() => ({
      piece: new Nf4Piece(gpu),
      absmax: gpu.buffer("absmax of a tensor", nf4Blocks(weight.rows * weight.cols) * 4),
    }));
    this.#piece = value.piece;
    this.#absmax = value.absmax;
    this.#owned = buffers;
    this.#finish = quantizeAbsmax(gpu, weight, wholeBuffer(value.absmax));
  }

  /** Resolves once pieces in this staging buffer can be quantized. */
  async prepare(staging: GpuBuffer, dtype: FloatDtype): Promise<void> {
    if (!this.#quantize.has(staging)) {
      const values = wholeBuffer(staging);
      const op = { piece: this.#piece, values, dtype, weight: this.#weight, absmax: wholeBuffer(this.#absmax) };
      this.#quantize.set(staging, quantizeNf4(this.#gpu, op));
    }
    await this.#gpu.pipelines.ready();
  }

  /**
   * Submits the work on a piece that lies in a prepared staging buffer: `elements` from `firstElement`, a multiple of 64, on.
   * Returns whether it was the last; then the tensor's own buffers are released.
   */
  submit(staging: GpuBuffer, firstElement: number, elements: number): boolean {
    const gpu = this.#gpu;
    this.#elements += elements;
    const isLast = this.#elements === this.#weight.rows * this.#weight.cols;
    this.#piece.set(firstElement, elements);
    const commands = [...this.#quantize.get(staging)!, ...(isLast ? this.#finish : [])];
    gpu.submit(record(gpu, "quantize weights", commands));
    if (isLast) this.release();
    return isLast;
  }

  /** Submitted work keeps what it needs. */
  release(): void {
    for (const buffer of this.#owned) this.#gpu.release(buffer);
  }
}
