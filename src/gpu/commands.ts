import type { Access, Binding, BufferRange, GpuBuffer } from "./buffer.ts";
import type { Gpu } from "./gpu.ts";
import type { KernelVariant, Pipeline } from "./pipelines.ts";
import type { Readback } from "./readback.ts";
import type { Proof } from "./watch.ts";

export type Workgroups = readonly [x: number, y: number, z: number];

/** What a dispatch computes and moves at least, for a profile. */
export interface Work {
  /** A multiplication and an addition are two. */
  readonly flops: number;
  /** Read and written, each element once. */
  readonly bytes: number;
}

export interface Dispatch {
  readonly kind: "dispatch";
  readonly label: string;
  readonly pipeline: Pipeline;
  readonly bindGroup: GPUBindGroup;
  /** The buffers that it changes. */
  readonly writes: readonly GpuBuffer[];
  /** Asked at each replay, because the number of rows changes from batch to batch. */
  readonly workgroups: () => Workgroups;
  /** Null where it does not follow from the number of rows alone. */
  readonly work: (() => Work) | null;
}

export interface Copy {
  readonly kind: "copy";
  readonly from: BufferRange;
  readonly to: { readonly buffer: GpuBuffer; readonly offsetBytes: () => number };
  /** Bytes to copy at this replay: at most `from.sizeBytes`, a multiple of 4. */
  readonly sizeBytes: () => number;
}

export interface Clear {
  readonly kind: "clear";
  readonly range: BufferRange;
}

/** One entry of a plan: built once with its bind group, replayed in every batch. */
export type Command = Dispatch | Copy | Clear;

const MAX_WORKGROUPS_PER_DIMENSION = 65_535;

/** A kernel applied to buffers. Bindings are numbered as they are listed, in bind group 0. */
export function dispatch(
  gpu: Gpu,
  variant: KernelVariant,
  bindings: readonly Binding[],
  workgroups: () => Workgroups,
  work: (() => Work) | null = null,
): Dispatch {
  const accesses: Access[] = bindings.map((binding) => binding.access);
  const pipeline = gpu.pipelines.get(variant, accesses);
  for (const { access, range } of bindings) {
    if (access !== "uniform" && range.sizeBytes > gpu.bindingLimitBytes) {
      throw new Error(
        `internal: ${variant.kernel} binds ${range.sizeBytes} bytes of ${range.buffer.label}, over the limit of ${gpu.bindingLimitBytes}`,
      );
    }
  }
  const bindGroup = gpu.device.createBindGroup({
    label: variant.kernel,
    layout: pipeline.layout,
    entries: bindings.map(({ range }, binding) => ({
      binding,
      resource: { buffer: range.buffer.raw, offset: range.buffer.baseBytes + range.offsetBytes, size: range.sizeBytes },
    })),
  });
  const writes = bindings.filter(({ access }) => access === "readWrite").map(({ range }) => range.buffer);
  return { kind: "dispatch", label: variant.kernel, pipeline, bindGroup, writes, workgroups, work };
}

export function clear(range: BufferRange): Clear {
  return { kind: "clear", range };
}

/** A command buffer on its way to `Gpu.submit`. */
export interface Recorded {
  readonly label: string;
  readonly commands: readonly Command[];
  readonly commandBuffer: GPUCommandBuffer;
  readonly proof: Proof | null;
}

/** Makes a command buffer of commands, and of the copies of what is to come back from them. */
export function record(
  gpu: Gpu,
  label: string,
  commands: readonly Command[],
  readback: Readback | null = null,
): Recorded {
  const encoder = gpu.device.createCommandEncoder();
  const proof = readback?.proof ?? null;
  readback?.poison(encoder);
  encode(gpu, encoder, commands);
  gpu.watch?.seal(encoder, label);
  proof?.check(encoder);
  readback?.encode(encoder);
  return { label, commands, commandBuffer: encoder.finish(), proof };
}

/**
 * Records commands into an encoder. Consecutive dispatches share a compute pass, and WebGPU orders them by their buffers;
 * only while they are profiled has each a pass of its own.
 */
export function encode({ profiler }: Gpu, encoder: GPUCommandEncoder, commands: Iterable<Command>): void {
  const timer = profiler?.isActive ? profiler : null;
  let pass: GPUComputePassEncoder | undefined;
  const endPass = () => {
    pass?.end();
    pass = undefined;
  };
  for (const command of commands) {
    switch (command.kind) {
      case "dispatch": {
        const [x, y, z] = command.workgroups();
        if (Math.max(x, y, z) > MAX_WORKGROUPS_PER_DIMENSION) {
          throw new Error(`internal: ${command.label} dispatches ${x} x ${y} x ${z} workgroups, over the limit`);
        }
        if (x * y * z === 0) break;
        if (timer) {
          endPass();
          const timestampWrites = timer.time(encoder, command.label, command.work?.() ?? null);
          pass = encoder.beginComputePass({ timestampWrites });
        }
        pass ??= encoder.beginComputePass();
        pass.setPipeline(command.pipeline.value());
        pass.setBindGroup(0, command.bindGroup);
        pass.dispatchWorkgroups(x, y, z);
        break;
      }
      case "copy": {
        const sizeBytes = command.sizeBytes();
        if (sizeBytes === 0) break;
        endPass();
        const { from, to } = command;
        const fromBytes = from.buffer.baseBytes + from.offsetBytes;
        const toBytes = to.buffer.baseBytes + to.offsetBytes();
        encoder.copyBufferToBuffer(from.buffer.raw, fromBytes, to.buffer.raw, toBytes, sizeBytes);
        break;
      }
      case "clear": {
        endPass();
        const { buffer, offsetBytes, sizeBytes } = command.range;
        encoder.clearBuffer(buffer.raw, buffer.baseBytes + offsetBytes, sizeBytes);
        break;
      }
      default:
        command satisfies never;
    }
  }
  endPass();
  timer?.resolve(encoder);
}
