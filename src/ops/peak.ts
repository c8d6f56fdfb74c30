import { type BufferRange, read, readWrite, uniform, wholeBuffer } from "../gpu/buffer.ts";
import { type Clear, type Command, clear, dispatch } from "../gpu/commands.ts";
import type { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { type Matrix, padded } from "./matrix.ts";

/** Where a binding of its own may begin. */
export const SLOT_BYTES = 256;

/** Owns places for the results of `peakOf`, which must be 0 before it runs: one clear does for all of a pass. */
export class PeakSlots {
  readonly #range: BufferRange;
  #taken = 0;

  constructor(gpu: Gpu, slots: number) {
    this.#range = wholeBuffer(gpu.buffer("largest elements", slots * SLOT_BYTES));
  }

  /** So many neighbouring slots: one u32 at the start of each {@link SLOT_BYTES}. */
  take(slots: number): BufferRange {
    const range = {
      buffer: this.#range.buffer,
      offsetBytes: this.#taken * SLOT_BYTES,
      sizeBytes: slots * SLOT_BYTES,
    };
    this.#taken += slots;
    if (this.#taken * SLOT_BYTES > this.#range.sizeBytes) throw new Error("internal: too few slots for peaks");
    return range;
  }

  /** To be run before the first `peakOf` of a pass. */
  get clear(): Clear {
    return clear(this.#range);
  }
}

export interface Peak {
  /** T, the rows of x. */
  readonly count: RowCount;
  /** x (T, C). */
  readonly x: Matrix;
  /** (T) f32, positive and finite: what each row is multiplied by; null for 1. */
  readonly factor: BufferRange | null;
  /** A slot that is 0: it gets the bits of the f32, of which `peak_scale` of kernels/library makes a power of two. */
  readonly peak: BufferRange;
}

/** Reads of a vec4 that an invocation is to make before one more workgroup is worth its atomic. */
const READS = 16;
/** Enough workgroups to fill any adapter. */
const MAX_WORKGROUPS = 4096;

/** peak = max over t, c of factor_t · |x_tc|: `kernels/elementwise/peak.wgsl`. */
export function peakOf(gpu: Gpu, { count, x, factor, peak }: Peak): Command {
  const vecs = padded(x.cols) / 4;
  const groups = () => Math.min(MAX_WORKGROUPS, Math.ceil((count.value * vecs) / (READS * gpu.reductionLanes)));
  return dispatch(
    gpu,
    {
      kernel: "elementwise/peak",
      prelude: { "const LANES": `${gpu.reductionLanes}u` },
      constants: { VECS: vecs, HAS_FACTOR: factor !== null },
    },
    [uniform(count.uniform), read(x.range), read(factor ?? x.range), readWrite({ ...peak, sizeBytes: 4 })],
    () => [groups(), 1, 1],
    () => ({ flops: 0, bytes: 16 * count.value * vecs }),
  );
}
