import { DeviceError, OutOfMemoryError } from "../errors.ts";
import type { BufferRange, GpuBuffer } from "./buffer.ts";
import { type Recorded, record } from "./commands.ts";
import { Decisions } from "./decisions.ts";
import type { FragmentUnit } from "./fragment-unit.ts";
import { type KernelSource, PipelineCache } from "./pipelines.ts";
import { Profiler } from "./profiler.ts";
import { type Readback, ReadbackPool, type ResultRange } from "./readback.ts";
import { GUARD_BYTES, Watch } from "./watch.ts";
import { WATCHDOG_LIMITS, Watchdog, type WatchdogLimits } from "./watchdog.ts";

export interface GpuOptions {
  readonly kernelSource: KernelSource;
  /** Invocations that the adapter runs in step, where it says; 32 if not given. */
  readonly subgroupSize?: number | undefined;
  /** The adapter's subgroup matrices; null where it has none with f16 factors and f32 sums. */
  readonly fragments?: FragmentUnit | null;
  /** Bytes of all buffers together, as if the device had no more; null for no limit. */
  readonly memoryLimitBytes?: number | null;
  /** Largest binding to use, in bytes: the device's limit, or less in tests of splitting. */
  readonly bindingLimitBytes?: number;
  /** How long the GPU may take to answer. */
  readonly watchdog?: WatchdogLimits;
  /** Whether to look for work that the driver drops in silence, and for writes outside of buffers. */
  readonly watch?: boolean;
}

const STORAGE_USAGE = () => GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
const UNIFORM_USAGE = () => GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST;

/**
 * Owns a WebGPU device: its buffers, pipelines and failures. Nothing that goes wrong on the device stays silent: the
 * first error that Dawn reports, and the loss of the device, are kept and thrown at the next point where we wait.
 */
export class Gpu {
  readonly device: GPUDevice;
  readonly pipelines: PipelineCache;
  readonly bindingLimitBytes: number;
  /** Between variants of kernels. */
  readonly decisions = new Decisions();
  /** Null where the adapter has no subgroup matrices with f16 factors and f32 sums. */
  readonly fragments: FragmentUnit | null;
  /**
   * Size of the workgroups that add up a row: one subgroup, whose barriers cost next to nothing on a GPU. On drivers for
   * the CPU, where barriers are dear, subgroups are small.
   */
  readonly reductionLanes: number;
  /** Null where the adapter has no timestamps. */
  readonly profiler: Profiler | null;
  readonly watchdog: Watchdog;
  /** Null where it was not asked for. */
  readonly watch: Watch | null;
  readonly #memoryLimitBytes: number;
  readonly #readbacks: ReadbackPool;
  readonly #live = new Set<GpuBuffer>();
  #collected: GpuBuffer[] | undefined;
  #failure: Error | undefined;
  #destroyed = false;
  #liveBytes = 0;
  #peakBytes = 0;

  constructor(device: GPUDevice, options: GpuOptions) {
    this.device = device;
    this.pipelines = new PipelineCache(device, options.kernelSource);
    const deviceLimit = device.limits.maxStorageBufferBindingSize;
    this.bindingLimitBytes = Math.min(options.bindingLimitBytes ?? deviceLimit, deviceLimit);
    this.#memoryLimitBytes = options.memoryLimitBytes ?? Number.POSITIVE_INFINITY;
    this.fragments = options.fragments ?? null;
    this.reductionLanes = Math.min(64, Math.max(4, options.subgroupSize || 32));
    this.watchdog = new Watchdog(options.watchdog ?? WATCHDOG_LIMITS);
    this.#readbacks = new ReadbackPool(this);
    this.profiler = device.features.has("timestamp-query") ? new Profiler(this) : null;
    this.watch = options.watch ? new Watch(this) : null;
    device.addEventListener("uncapturederror", (event) => {
      this.#failure ??= describeError((event as GPUUncapturedErrorEvent).error, this.#liveBytes);
    });
    void device.lost.then((info) => {
      if (this.#destroyed) return;
      this.#failure ??= lostError(info, this.#liveBytes);
    });
  }

  /** Bytes of all buffers that exist now, and the most there ever were. */
  get memory(): { liveBytes: number; peakBytes: number } {
    return { liveBytes: this.#liveBytes, peakBytes: this.#peakBytes };
  }

  /** A zero-filled storage buffer. The size is rounded up to a multiple of 16 bytes, so that vec4 views cover it. */
  buffer(label: string, sizeBytes: number): GpuBuffer {
    const roundedBytes = Math.max(16, Math.ceil(sizeBytes / 16) * 16);
    const hasRoom = roundedBytes + 2 * GUARD_BYTES <= this.device.limits.maxBufferSize;
    const buffer = this.#create(label, roundedBytes, STORAGE_USAGE(), this.watch && hasRoom ? GUARD_BYTES : 0);
    if (buffer.baseBytes > 0) this.watch?.guard(buffer);
    return buffer;
  }

  /** A uniform buffer that holds `words` (u32; put floats in through a shared ArrayBuffer). */
  uniform(label: string, words: Uint32Array<ArrayBuffer>): GpuBuffer {
    const buffer = this.#create(label, Math.max(16, Math.ceil(words.byteLength / 16) * 16), UNIFORM_USAGE());
    this.write(buffer, 0, words);
    return buffer;
  }

  /**
   * Runs `make`, which must be synchronous, and lists the buffers that it made: for an owner that is to release them
   * together. When it throws, they are released at once.
   */
  collect<T>(make: () => T): { readonly value: T; readonly buffers: readonly GpuBuffer[] } {
    const outer = this.#collected;
    const buffers: GpuBuffer[] = [];
    this.#collected = buffers;
    try {
      const value = make();
      outer?.push(...buffers);
      return { value, buffers };
    } catch (error) {
      for (const buffer of buffers) this.release(buffer);
      throw error;
    } finally {
      this.#collected = outer;
    }
  }

  release(buffer: GpuBuffer): void {
    if (!this.#live.delete(buffer)) return;
    this.#liveBytes -= allocatedBytes(buffer);
    this.watch?.forget(buffer);
    buffer.raw.destroy();
  }

  /** Copies bytes into a buffer. Offset and length are multiples of 4. The data may be reused at once. */
  write(buffer: GpuBuffer, offsetBytes: number, data: ArrayBufferView<ArrayBuffer>): void {
    if (offsetBytes + data.byteLength > buffer.sizeBytes) {
      throw new Error(
        `internal: write of ${data.byteLength} bytes at ${offsetBytes} runs over the end of ${buffer.label}`,
      );
    }
    const at = buffer.baseBytes + offsetBytes;
    this.device.queue.writeBuffer(buffer.raw, at, data.buffer, data.byteOffset, data.byteLength);
  }

  /** Copies ranges back to the host in one round trip, once all work submitted so far is done. */
  async read(...ranges: readonly BufferRange[]): Promise<ArrayBuffer[]> {
    const readback = this.readback(...ranges);
    this.submit(record(this, "read", [], readback));
    return readback.finish();
  }

  /** A readback whose copies go into a command buffer of the caller's: record it, submit, then await `finish`. */
  readback(...ranges: readonly ResultRange[]): Readback {
    return this.#readbacks.prepare(ranges, this.watch?.proof() ?? null);
  }

  /** Internal to src/gpu: a readback that goes into no recorded command buffer, so that nothing is proven of it. */
  bareReadback(range: BufferRange): Readback {
    return this.#readbacks.prepare([range]);
  }

  /** Submits command buffers, in their order. */
  submit(...recorded: readonly Recorded[]): void {
    for (const { label, commands, proof } of this.watch ? recorded : []) {
      const number = this.watch!.submitted(label, commands);
      proof?.submitted(number);
    }
    this.device.queue.submit(recorded.map(({ commandBuffer }) => commandBuffer));
  }

  /** Releases the memory that results came back through: after a phase whose results are larger than those of the next. */
  releaseStaging(): void {
    this.#readbacks.releaseFree();
  }

  /** Waits for all submitted work. Throws what went wrong on the device meanwhile. */
  async idle(): Promise<void> {
    await this.watchdog.wait(this.device.queue.onSubmittedWorkDone());
    // That resolves even after the device was lost; a mapped readback does not, but alone it would not wait.
    await this.read();
    this.throwIfFailed();
  }

  /**
   * Waits until what was written so far has left the host's staging memory. Without it, uploading a model would hold a
   * second copy of it in memory.
   */
  async flush(): Promise<void> {
    this.device.queue.submit([]);
    await this.watchdog.wait(this.device.queue.onSubmittedWorkDone());
    this.throwIfFailed();
  }

  /** Internal to src/gpu: makes every wait from now on throw this, unless something has failed before. */
  fail(error: Error): void {
    this.#failure ??= error;
  }

  throwIfFailed(): void {
    if (this.#failure) throw this.#failure;
  }

  /** Destroys every buffer and the device, unless it hangs: then that would never end. */
  destroy(): void {
    this.#destroyed = true;
    if (this.watchdog.isHung) return;
    this.profiler?.destroy();
    this.#readbacks.releaseFree();
    for (const buffer of [...this.#live]) this.release(buffer);
    this.device.destroy();
  }

  /** Internal to src/gpu: a counted buffer of any usage. */
  createCounted(label: string, sizeBytes: number, usage: GPUBufferUsageFlags): GpuBuffer {
    return this.#create(label, sizeBytes, usage);
  }

  #create(label: string, sizeBytes: number, usage: GPUBufferUsageFlags, guardBytes = 0): GpuBuffer {
    this.throwIfFailed();
    const limit = this.device.limits.maxBufferSize;
    if (sizeBytes > limit) {
      throw new DeviceError(
        `buffer ${label} needs ${sizeBytes} bytes, this adapter allows ${limit} per buffer; lower max_tokens_per_batch`,
      );
    }
    const allBytes = sizeBytes + 2 * guardBytes;
    if (this.#liveBytes + allBytes > this.#memoryLimitBytes) {
      throw new OutOfMemoryError(
        `the GPU is out of memory: ${label} needs ${sizeBytes} bytes, ${this.#liveBytes} of ${this.#memoryLimitBytes} are taken`,
      );
    }
    const raw = this.device.createBuffer({ label, size: allBytes, usage });
    const buffer = { raw, label, sizeBytes, baseBytes: guardBytes };
    this.#live.add(buffer);
    this.#collected?.push(buffer);
    this.#liveBytes += allBytes;
    this.#peakBytes = Math.max(this.#peakBytes, this.#liveBytes);
    return buffer;
  }
}

function allocatedBytes({ sizeBytes, baseBytes }: GpuBuffer): number {
  return sizeBytes + 2 * baseBytes;
}

/** Some drivers lose the device where others refuse a buffer. */
const OUT_OF_MEMORY = /out[ _]of[ _](device[ _]|host[ _])?memory/i;

function lostError({ reason, message }: GPUDeviceLostInfo, liveBytes: number): Error {
  const said = message.trim() || "no message";
  if (OUT_OF_MEMORY.test(said)) return outOfMemory(said, liveBytes);
  return new DeviceError(
    `the GPU device was lost (${reason || "unknown reason"}): ${said}; run again, and if it happens again lower max_tokens_per_batch`,
  );
}

function outOfMemory(said: string, liveBytes: number): Error {
  return new OutOfMemoryError(`the GPU is out of memory with ${liveBytes} bytes asked of it: ${said}`);
}

function describeError(error: GPUError, liveBytes: number): Error {
  if (typeof GPUOutOfMemoryError !== "undefined" && error instanceof GPUOutOfMemoryError) {
    return outOfMemory(error.message, liveBytes);
  }
  return new Error(`internal: WebGPU error: ${error.message}`);
}
