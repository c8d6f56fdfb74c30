/** A GPU buffer whose owner is known: made by `Gpu.buffer`, counted in its memory, released by `Gpu.release`. */
export interface GpuBuffer {
  readonly raw: GPUBuffer;
  readonly label: string;
  readonly sizeBytes: number;
  /** Where its bytes begin in `raw`: 0, or behind a guard of so many bytes, and then there is another behind its end. */
  readonly baseBytes: number;
}

/** A stretch of a buffer, as one binding sees it. `offsetBytes` is a multiple of 256 where it is bound. */
export interface BufferRange {
  readonly buffer: GpuBuffer;
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

export function wholeBuffer(buffer: GpuBuffer): BufferRange {
  return { buffer, offsetBytes: 0, sizeBytes: buffer.sizeBytes };
}

export function totalBytes(buffers: readonly GpuBuffer[]): number {
  return buffers.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

/** How a kernel uses a binding. Written at the call, so that a reader sees what a dispatch reads and what it changes. */
export type Access = "read" | "readWrite" | "uniform";

export interface Binding {
  readonly access: Access;
  readonly range: BufferRange;
}

export function read(range: BufferRange): Binding {
  return { access: "read", range };
}

export function readWrite(range: BufferRange): Binding {
  return { access: "readWrite", range };
}

export function uniform(buffer: GpuBuffer): Binding {
  return { access: "uniform", range: wholeBuffer(buffer) };
}
