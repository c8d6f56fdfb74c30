import type { GpuBuffer } from "./buffer.ts";
import type { Gpu } from "./gpu.ts";

/**
 * How many rows a batch has: known to kernels through a uniform (`count.x`) and to the host for the size of the
 * dispatches. Buffers and bind groups are made once for `max` rows, so a plan is replayed for any number up to it.
 */
export class RowCount {
  readonly max: number;
  readonly uniform: GpuBuffer;
  readonly #gpu: Gpu;
  #value = 0;

  constructor(gpu: Gpu, label: string, max: number) {
    this.#gpu = gpu;
    this.max = max;
    this.uniform = gpu.uniform(`${label} count`, new Uint32Array(4));
  }

  get value(): number {
    return this.#value;
  }

  /** Takes effect for command buffers submitted after this call. */
  set(value: number): void {
    if (value > this.max) throw new Error(`internal: ${value} rows in ${this.uniform.label} of at most ${this.max}`);
    this.#value = value;
    this.#gpu.write(this.uniform, 0, new Uint32Array([value, 0, 0, 0]));
  }
}
