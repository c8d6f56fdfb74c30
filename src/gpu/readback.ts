import { DeviceError, HungDeviceError } from "../errors.ts";
import type { BufferRange, GpuBuffer } from "./buffer.ts";
import type { Gpu } from "./gpu.ts";
import type { Proof } from "./watch.ts";

/** A stretch of a buffer that is to come back. */
export interface ResultRange extends BufferRange {
  /** Whether the commands that it comes back from write all of it, and read nothing of it before. */
  readonly isRewritten?: boolean;
}

/** Copies on their way to the host. `encode` once into a command buffer, submit it, then await `finish`. */
export interface Readback {
  /** Null without `--watch`. */
  readonly proof: Proof | null;
  /** Goes before the commands that make the results: with `--watch`, what they do not write is found. */
  readonly poison: (encoder: GPUCommandEncoder) => void;
  readonly encode: (encoder: GPUCommandEncoder) => void;
  /** One ArrayBuffer for each range, of the range's size. */
  readonly finish: () => Promise<ArrayBuffer[]>;
}

/** Bytes of the buffer through which so many bytes come back. */
export function stagingBytes(resultBytes: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(resultBytes, 256)));
}

/**
 * Mappable staging buffers, kept and reused: a readback a step must not allocate a buffer a step. A new one is larger than
 * all that are free and takes their place, so that there are never more than results on their way at once.
 */
export class ReadbackPool {
  readonly #gpu: Gpu;
  /** From small to large. */
  readonly #free: GpuBuffer[] = [];

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** @param proof of what comes back; null for none */
  prepare(ranges: readonly ResultRange[], proof: Proof | null = null): Readback {
    const { watch } = this.#gpu;
    const totalBytes = ranges.reduce((sum, range) => sum + range.sizeBytes, 0);
    const staging = this.#take(totalBytes);
    const { sizeBytes } = staging;
    return {
      proof,
      poison: (encoder) => {
        for (const range of ranges) if (range.isRewritten) watch?.poison(encoder, range);
      },
      encode: (encoder) => {
        let at = 0;
        for (const { buffer, offsetBytes, sizeBytes: length } of ranges) {
          encoder.copyBufferToBuffer(buffer.raw, buffer.baseBytes + offsetBytes, staging.raw, at, length);
          at += length;
        }
        proof?.encode(encoder);
      },
      finish: async () => {
        try {
          await this.#gpu.watchdog.wait(staging.raw.mapAsync(GPUMapMode.READ, 0, sizeBytes));
        } catch (error) {
          if (error instanceof HungDeviceError) throw error;
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
        this.#free.push(staging);
        this.#free.sort((a, b) => a.sizeBytes - b.sizeBytes);
        this.#gpu.throwIfFailed();
        await proof?.finish();
        for (const [i, range] of ranges.entries()) if (range.isRewritten) watch?.requireWritten(range, copies[i]!);
        return copies;
      },
    };
  }

  /** Releases what no result is on its way through. */
  releaseFree(): void {
    for (const buffer of this.#free.splice(0)) this.#gpu.release(buffer);
  }

  #take(resultBytes: number): GpuBuffer {
    const fitting = this.#free.findIndex((buffer) => buffer.sizeBytes >= resultBytes);
    if (fitting !== -1) return this.#free.splice(fitting, 1)[0]!;
    this.releaseFree();
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
    return this.#gpu.createCounted("readback staging", stagingBytes(resultBytes), usage);
  }
}
