import { DeviceError } from "../errors.ts";
import { type BufferRange, type GpuBuffer, wholeBuffer } from "./buffer.ts";
import type { Command } from "./commands.ts";
import type { Gpu } from "./gpu.ts";
import type { Pipeline } from "./pipelines.ts";
import { type Readback, ReadbackPool } from "./readback.ts";

/** Of a guard before a buffer's bytes, and of the one behind: where a binding may begin. */
export const GUARD_BYTES = 256;
/** As a float large but finite, so that a kernel that reads it by mistake and multiplies it by zero gets zero. */
const CANARY = 0x5afec0de;
/** A NaN that no arithmetic makes: what stands in results before they are computed. */
const POISON = 0x7fc5dead;
const POISON_BYTES = 1 << 18;
/** Command buffers that the GPU's log names. */
const RING = 64;
const HEADER_WORDS = 4;
const LOG_BYTES = 4 * (HEADER_WORDS + RING);
const WORKGROUP = 64;
const GUARD_WORDS = GUARD_BYTES / 4;

const WHAT_TO_DO =
  "what was computed cannot be trusted: update the GPU's driver, lower max_tokens_per_batch, so that the GPU's work comes in smaller pieces, or take --safe";

/** A command buffer that was submitted. */
interface Submitted {
  readonly label: string;
  readonly commands: readonly Command[];
}

/** What goes into a command buffer that brings results back, so that they come with a proof of all that was before them. */
export interface Proof {
  /** Checks the guards, behind the commands. */
  readonly check: (encoder: GPUCommandEncoder) => void;
  /** Copies the log, behind the results. */
  readonly encode: (encoder: GPUCommandEncoder) => void;
  /** To be called with the number of its own command buffer. */
  readonly submitted: (number: number) => void;
  /** @throws DeviceError where work was dropped, or a guard was written to */
  readonly finish: () => Promise<void>;
}

/**
 * Finds work that a driver kills in silence, and kernels that write where they must not. Every command buffer ends with a
 * count on the GPU; every buffer lies between two guards; and results are overwritten with a NaN of our own before they are
 * computed. All of it is looked at whenever something comes back to the host, before that is used.
 */
export class Watch {
  readonly #gpu: Gpu;
  readonly #log: GpuBuffer;
  readonly #logRange: BufferRange;
  readonly #poison: GpuBuffer;
  readonly #count: GpuBuffer;
  readonly #sentinel: Pipeline;
  readonly #canaries: Pipeline;
  readonly #proofs: ReadbackPool;
  readonly #kinds = new Map<string, { readonly id: number; readonly bindGroup: GPUBindGroup }>();
  readonly #guarded = new Set<GpuBuffer>();
  #guards: { readonly buffer: GpuBuffer; readonly bindGroup: GPUBindGroup } | undefined;
  /** Command buffers by their number, those that the GPU's log may still name. */
  readonly #submitted = new Map<number, Submitted>();
  #submittedCount = 0;
  #provenCount = 0;

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
    const { STORAGE, COPY_SRC, COPY_DST, UNIFORM } = GPUBufferUsage;
    this.#log = gpu.createCounted("watch log", LOG_BYTES, STORAGE | COPY_SRC | COPY_DST);
    this.#logRange = wholeBuffer(this.#log);
    this.#poison = gpu.createCounted("watch poison", POISON_BYTES, COPY_SRC | COPY_DST);
    this.#count = gpu.createCounted("watch count", 16, UNIFORM | COPY_DST);
    gpu.write(this.#poison, 0, new Uint32Array(POISON_BYTES / 4).fill(POISON));
    this.#sentinel = gpu.pipelines.get({ kernel: "watch/sentinel", constants: { RING } }, ["uniform", "readWrite"]);
    const constants = { CANARY };
    this.#canaries = gpu.pipelines.get({ kernel: "watch/canaries", constants }, ["uniform", "read", "readWrite"]);
    this.#proofs = new ReadbackPool(gpu);
  }

  /** Fills the guards of a buffer that has been made with them. */
  guard(buffer: GpuBuffer): void {
    const canaries = new Uint32Array(GUARD_WORDS).fill(CANARY);
    for (const offsetBytes of guardOffsets(buffer)) {
      this.#gpu.device.queue.writeBuffer(buffer.raw, offsetBytes, canaries);
    }
    this.#guarded.add(buffer);
  }

  /** To be called for each buffer that is released. */
  forget(buffer: GpuBuffer): void {
    this.#guarded.delete(buffer);
  }

  /** Puts NaN into results that the commands to come write completely. */
  poison(encoder: GPUCommandEncoder, { buffer, offsetBytes, sizeBytes }: BufferRange): void {
    for (let done = 0; done < sizeBytes; done += POISON_BYTES) {
      const length = Math.min(POISON_BYTES, sizeBytes - done);
      encoder.copyBufferToBuffer(this.#poison.raw, 0, buffer.raw, buffer.baseBytes + offsetBytes + done, length);
    }
  }

  /** @throws DeviceError where a result holds what `poison` has put there */
  requireWritten({ buffer }: BufferRange, result: ArrayBuffer): void {
    const words = new Uint32Array(result);
    if (!words.includes(POISON)) return;
    const lost = words.reduce((sum, word) => sum + (word === POISON ? 1 : 0), 0);
    this.#fail(
      `the GPU has lost results in silence: ${lost} of ${words.length} words of ${buffer.label} were never written`,
    );
  }

  /** Ends a command buffer. */
  seal(encoder: GPUCommandEncoder, label: string): void {
    const pass = encoder.beginComputePass();
    pass.setPipeline(this.#sentinel.value());
    pass.setBindGroup(0, this.#kind(label).bindGroup);
    pass.dispatchWorkgroups(1);
    pass.end();
  }

  /** Counts a command buffer that is submitted now. Returns its number. */
  submitted(label: string, commands: readonly Command[]): number {
    this.#submitted.set(this.#submittedCount, { label, commands });
    this.#submitted.delete(this.#submittedCount - RING);
    this.#submittedCount++;
    return this.#submittedCount;
  }

  proof(): Proof {
    const readback: Readback = this.#proofs.prepare([this.#logRange]);
    let guarded: readonly GpuBuffer[] = [];
    let number = 0;
    return {
      check: (encoder) => {
        guarded = [...this.#guarded];
        this.#encodeCheck(encoder, guarded);
      },
      encode: readback.encode,
      submitted: (own) => {
        number = own;
      },
      finish: async () => {
        const [copy] = await readback.finish();
        const log = new Uint32Array(copy!);
        if (log[0] !== number % 2 ** 32) await this.#failForDropped();
        if (log[1]! > 0) this.#fail(this.#describeDamage(guarded, ~log[2]! >>> 0, log[1]!));
        this.#provenCount = Math.max(this.#provenCount, number);
      },
    };
  }

  #encodeCheck(encoder: GPUCommandEncoder, guarded: readonly GpuBuffer[]): void {
    if (guarded.length === 0) return;
    const words = 2 * GUARD_WORDS * guarded.length;
    const { buffer: guards, bindGroup } = this.#guardsFor(words * 4);
    this.#gpu.write(this.#count, 0, new Uint32Array([words, 0, 0, 0]));
    encoder.clearBuffer(this.#log.raw, 4, 8);
    let at = 0;
    for (const buffer of guarded) {
      for (const offsetBytes of guardOffsets(buffer)) {
        encoder.copyBufferToBuffer(buffer.raw, offsetBytes, guards.raw, at, GUARD_BYTES);
        at += GUARD_BYTES;
      }
    }
    const pass = encoder.beginComputePass();
    pass.setPipeline(this.#canaries.value());
    pass.setBindGroup(0, bindGroup);
    pass.dispatchWorkgroups(Math.ceil(words / WORKGROUP));
    pass.end();
  }

  /** Room for a copy of all guards, with some to spare. */
  #guardsFor(sizeBytes: number): { buffer: GpuBuffer; bindGroup: GPUBindGroup } {
    if (this.#guards && this.#guards.buffer.sizeBytes >= sizeBytes) return this.#guards;
    if (this.#guards) this.#gpu.release(this.#guards.buffer);
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST;
    const buffer = this.#gpu.createCounted("watch guards", 2 ** Math.ceil(Math.log2(sizeBytes)), usage);
    this.#guards = { buffer, bindGroup: this.#bind(this.#canaries, [this.#count, buffer, this.#log]) };
    return this.#guards;
  }

  #kind(label: string): { id: number; bindGroup: GPUBindGroup } {
    let kind = this.#kinds.get(label);
    if (!kind) {
      const id = this.#kinds.size + 1;
      const uniform = this.#gpu.uniform(`watch ${label}`, new Uint32Array([id, 0, 0, 0]));
      kind = { id, bindGroup: this.#bind(this.#sentinel, [uniform, this.#log]) };
      this.#kinds.set(label, kind);
    }
    return kind;
  }

  #bind({ label, layout }: Pipeline, buffers: readonly GpuBuffer[]): GPUBindGroup {
    const entries = buffers.map(({ raw }, binding) => ({ binding, resource: { buffer: raw } }));
    return this.#gpu.device.createBindGroup({ label, layout, entries });
  }

  async #failForDropped(): Promise<never> {
    // What came back may be left over from an earlier time, where the copy was dropped with the rest: ask the log itself.
    const number = this.#submittedCount;
    const readback = this.#proofs.prepare([this.#logRange]);
    const encoder = this.#gpu.device.createCommandEncoder();
    readback.encode(encoder);
    this.#gpu.device.queue.submit([encoder.finish()]);
    const [copy] = await readback.finish();
    const log = new Uint32Array(copy!);
    const label = this.#firstDropped(log, number);
    const which = label === null ? "a command buffer" : `the command buffer "${label}"`;
    this.#fail(
      `the GPU's driver has dropped work in silence: ${which} was submitted, reported as done, and never ran to its end (${log[0]} of ${number} did)`,
    );
  }

  /** The first command buffer that has left no trace in the log; null where that has been overwritten since. */
  #firstDropped(log: Uint32Array, number: number): string | null {
    for (let i = Math.max(this.#provenCount, number - RING); i < number; i++) {
      const submitted = this.#submitted.get(i);
      if (!submitted) return null;
      const hasRun = i < log[0]! && log[HEADER_WORDS + (i % RING)] === this.#kind(submitted.label).id;
      if (!hasRun) return submitted.label;
    }
    return null;
  }

  #describeDamage(guarded: readonly GpuBuffer[], first: number, changed: number): string {
    const buffer = guarded[Math.floor(first / (2 * GUARD_WORDS))];
    if (!buffer) return `the log of --watch was damaged on the GPU`;
    const word = first % (2 * GUARD_WORDS);
    const where =
      word < GUARD_WORDS
        ? `${GUARD_BYTES - 4 * word} bytes before the start`
        : `${4 * (word - GUARD_WORDS)} bytes behind the end`;
    const kernels = this.#writersOf(buffer);
    const suspects = kernels.length > 0 ? `; since the last check it was written by ${kernels.join(", ")}` : "";
    return `something on the GPU has written outside of its buffer: ${changed} guard words are damaged, first ${where} of ${buffer.label} (${buffer.sizeBytes} bytes)${suspects}`;
  }

  /** The kernels that wrote to a buffer since the last results that were proven, the last ones first. */
  #writersOf(buffer: GpuBuffer): string[] {
    const writers = new Set<string>();
    for (let i = this.#submittedCount - 1; i >= this.#provenCount; i--) {
      const { label, commands } = this.#submitted.get(i) ?? { label: "", commands: [] };
      for (const command of commands.toReversed()) {
        if (command.kind === "dispatch" && command.writes.includes(buffer)) writers.add(`${command.label} (${label})`);
      }
    }
    return [...writers].slice(0, MAX_WRITERS);
  }

  #fail(seen: string): never {
    const error = new DeviceError(`--watch: ${seen}; ${WHAT_TO_DO}`);
    this.#gpu.fail(error);
    throw error;
  }
}

/** Kernels that a message names at most. */
const MAX_WRITERS = 4;

/** Where the guards of a buffer begin, in what was allocated for it. */
function guardOffsets({ baseBytes, sizeBytes }: GpuBuffer): number[] {
  return [0, baseBytes + sizeBytes];
}
