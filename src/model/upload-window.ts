import type { GpuBuffer } from "../gpu/buffer.ts";
import type { Gpu } from "../gpu/gpu.ts";

/** Uploads that may be on their way to the GPU at once. Each holds a copy of its bytes on the host. */
const MAX_UPLOADS = 3;

/** Dawn stages writes of up to 4 MiB in memory that it uses again, and makes a buffer for each that is larger. */
const WRITE_BYTES = 4 * 2 ** 20;

/** Bounds what uploads hold of the host's memory, while the next is prepared during the last. */
export class UploadWindow {
  readonly #gpu: Gpu;
  readonly #onTheirWay: Promise<void>[] = [];

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** Copies bytes into a buffer. Offset and length are multiples of 4. The bytes may be reused at once. */
  write(buffer: GpuBuffer, offsetBytes: number, bytes: Uint8Array<ArrayBuffer>): void {
    for (let done = 0; done < bytes.byteLength; done += WRITE_BYTES) {
      this.#gpu.write(buffer, offsetBytes + done, bytes.subarray(done, done + WRITE_BYTES));
    }
  }

  /** To be awaited after each upload: resolves when there is room for the next. Throws what went wrong on the device. */
  async wrote(): Promise<void> {
    const flushed = this.#gpu.flush();
    flushed.catch(() => {}); // Thrown where it is awaited, and only there.
    this.#onTheirWay.push(flushed);
    while (this.#onTheirWay.length >= MAX_UPLOADS) await this.#onTheirWay.shift();
  }

  /** Waits until all that was written is on the GPU. */
  async drain(): Promise<void> {
    while (this.#onTheirWay.length > 0) await this.#onTheirWay.shift();
  }
}
