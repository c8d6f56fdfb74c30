import type { GpuBuffer } from "./buffer.ts";
import { wholeBuffer } from "./buffer.ts";
import type { Work } from "./commands.ts";
import type { Gpu } from "./gpu.ts";
import type { Readback } from "./readback.ts";

/** A dispatch as the GPU's clock saw it. */
export interface TimedDispatch {
  readonly label: string;
  /** Nanoseconds since a start that all dispatches of a device share. */
  readonly startNs: number;
  readonly endNs: number;
  /** Null where the op does not say. */
  readonly work: Work | null;
}

/** Dispatches that one query set takes: WebGPU allows 4,096 queries, a dispatch takes two. */
const DISPATCHES_PER_SET = 2048;

interface Timing {
  readonly label: string;
  readonly work: Work | null;
}

interface Batch {
  readonly querySet: GPUQuerySet;
  readonly timings: Timing[];
}

/**
 * Times dispatches by timestamp queries while it is active. Every dispatch then has a compute pass of its own, as the
 * timestamps of WebGPU stand at the ends of passes.
 */
export class Profiler {
  /** Whether what is encoded now is timed. */
  isActive = false;
  readonly #gpu: Gpu;
  readonly #freeSets: GPUQuerySet[] = [];
  readonly #sets: GPUQuerySet[] = [];
  #open: Batch | null = null;
  readonly #pending: { readonly batch: Batch; readonly readback: Readback; readonly resolved: GpuBuffer }[] = [];

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** The timestamps for the pass of one dispatch. The encoder is given so that a full set can be resolved into it. */
  time(encoder: GPUCommandEncoder, label: string, work: Work | null): GPUComputePassTimestampWrites {
    if (this.#open?.timings.length === DISPATCHES_PER_SET) this.resolve(encoder);
    this.#open ??= { querySet: this.#takeSet(), timings: [] };
    const { querySet, timings } = this.#open;
    const first = 2 * timings.length;
    timings.push({ label, work });
    return { querySet, beginningOfPassWriteIndex: first, endOfPassWriteIndex: first + 1 };
  }

  /** Brings what was timed in this encoder on its way to the host. To be called before the encoder is finished. */
  resolve(encoder: GPUCommandEncoder): void {
    const batch = this.#open;
    if (!batch) return;
    this.#open = null;
    const queries = 2 * batch.timings.length;
    const resolved = this.#gpu.createCounted(
      "timestamps",
      queries * 8,
      GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    );
    encoder.resolveQuerySet(batch.querySet, 0, queries, resolved.raw, 0);
    const readback = this.#gpu.bareReadback(wholeBuffer(resolved));
    readback.encode(encoder);
    this.#pending.push({ batch, readback, resolved });
  }

  /** What was timed since the last call, in the order of its encoding. All of it must have been submitted. */
  async collect(): Promise<TimedDispatch[]> {
    const timed: TimedDispatch[] = [];
    for (const { batch, readback, resolved } of this.#pending.splice(0)) {
      const [copy] = await readback.finish();
      const stamps = new BigUint64Array(copy!);
      for (const [i, { label, work }] of batch.timings.entries()) {
        timed.push({ label, work, startNs: Number(stamps[2 * i]!), endNs: Number(stamps[2 * i + 1]!) });
      }
      this.#gpu.release(resolved);
      this.#freeSets.push(batch.querySet);
    }
    return timed;
  }

  destroy(): void {
    for (const set of this.#sets) set.destroy();
  }

  #takeSet(): GPUQuerySet {
    const free = this.#freeSets.pop();
    if (free) return free;
    const set = this.#gpu.device.createQuerySet({ type: "timestamp", count: 2 * DISPATCHES_PER_SET });
    this.#sets.push(set);
    return set;
  }
}
