import { DeviceError } from "../errors.ts";
import type { BufferRange, GpuBuffer } from "./buffer.ts";
import type { Gpu } from "./gpu.ts";

/** Copies on their way to the host. `encode` once into a command buffer, submit it, then await `finish`. */
export interface Readback {
  readonly encode: (encoder: GPUCommandEncoder) => void;
  /** One ArrayBuffer for each range, of the range's size. */
  readonly finish: () => Promise<ArrayBuffer[]>;
}

/** Mappable staging buffers, kept and reused by size: a readback a step must not allocate a buffer a step. */
export class ReadbackPool {
  readonly #gpu: Gpu;
  readonly #free = new Map<number, GpuBuffer[]>();

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  prepare(ranges: readonly BufferRange[]): Readback {
    const totalBytes = ranges.reduce((sum, range) => sum + range.sizeBytes, 0);
    const sizeBytes = 2 ** Math.ceil(Math.log2(Math.max(totalBytes, 256)));
    const staging =
      this.#free.get(sizeBytes)?.pop() ??
      this.#gpu.createCounted("readback staging", sizeBytes, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
    return {
      encode: (encoder) => {
        let at = 0;
        for (const { buffer, offsetBytes, sizeBytes: length } of ranges) {
          encoder.copyBufferToBuffer(buffer.raw, offsetBytes, staging.raw, at, length);
          at += length;
        }
      },
      finish: async () => {
        try {
          await staging.raw.mapAsync(GPUMapMode.READ, 0, sizeBytes);
        } catch (error) {
          // The lost promise and uncaptured errors settle on their own turns: let them speak first, they know why.
          await new Promise((resolve) => setTimeout(resolve, 0));
          this.#gpu.throwIfFailed();
          throw new DeviceError(`results could not be read back from the GPU: ${String(error)}`);
        }
        const mapped = staging.raw.getMappedRange(0, sizeBytes);
        let at = 0;
        const copies = ranges.map((range) => {
          const copy = mapped.slice(at, at + range.sizeBytes);
          at += range.sizeBytes;
          return copy;
        });
        staging.raw.unmap();
        const free = this.#free.get(sizeBytes) ?? [];
        free.push(staging);
        this.#free.set(sizeBytes, free);
        this.#gpu.throwIfFailed();
        return copies;
      },
    };
  }

  destroy(): void {
    for (const buffers of this.#free.values()) for (const buffer of buffers) this.#gpu.release(buffer);
    this.#free.clear();
  }
}
