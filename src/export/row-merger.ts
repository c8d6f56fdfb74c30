import { DeviceError } from "../errors.ts";
import { type BufferRange, type GpuBuffer, totalBytes, wholeBuffer } from "../gpu/buffer.ts";
import { type Command, record } from "../gpu/commands.ts";
import { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { stagingBytes } from "../gpu/readback.ts";
import { writeMatrix } from "../model/lora.ts";
import { createMatrix, type Matrix, matrixBytes, PADDING, padded } from "../ops/matrix.ts";
import { createMergeModule, MAX_MERGE_ROWS, MERGE_SUMS, mergeRows, mergeWorkgroups } from "../ops/merge.ts";
import type { FloatDtype } from "../weights/half.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";
import type { LoraAdapter } from "../weights/peft-adapter.ts";
import { type LoraSettings, loraScale } from "../weights/peft-config.ts";
import { type Projection, projectionSize } from "../weights/projections.ts";
import { DTYPE_BYTES } from "../weights/safetensors-header.ts";
import { addPartialSums, type MergeSums, noSums } from "./merge-sums.ts";
import { dropPadding, padRows } from "./row-padding.ts";
import { updateUnit } from "./update-unit.ts";

/** Elements that one dispatch merges at most: 16 MiB of bf16. */
const MAX_RUN_ELEMENTS = 2 ** 23;

/** Whole rows of a projection's weight, as a file holds them. */
export interface WeightRows {
  readonly layer: number;
  readonly projection: Projection;
  readonly dtype: FloatDtype;
  readonly firstRow: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

export interface MergedRows {
  readonly firstRow: number;
  /** In the dtype of the merger, in new memory. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly sums: MergeSums;
}

/** A projection's buffers, which its layers use in turn. */
interface Module {
  readonly inFeatures: number;
  /** Rows that one dispatch merges. */
  readonly runRows: number;
  readonly uniform: GpuBuffer;
  readonly a: Matrix;
  /** The rows of B beside those of a run. */
  readonly b: Matrix;
  /** The layer whose A is there. */
  layer: number;
  readonly commands: Map<FloatDtype, Command[]>;
}

interface MergeBuffers {
  readonly modules: ReadonlyMap<Projection, Module>;
  readonly count: RowCount;
  /** A run's rows of the base, of the result, and its sums. */
  readonly w: GpuBuffer;
  readonly v: GpuBuffer;
  readonly sums: GpuBuffer;
}

/** Owns the GPU buffers with which an adapter is merged into its base, a run of rows at a time. */
export class RowMerger {
  readonly #gpu: Gpu;
  readonly #adapter: LoraAdapter;
  readonly #dtype: FloatDtype;
  readonly #unit: number;
  readonly #buffers: MergeBuffers;
  readonly #owned: readonly GpuBuffer[];

  /**
   * `dtype` is that of the merged weights.
   * @throws DeviceError when the device cannot bind a factor, or a few rows.
   */
  constructor(gpu: Gpu, adapter: LoraAdapter, config: LlamaConfig, dtype: FloatDtype) {
    this.#gpu = gpu;
    this.#adapter = adapter;
    this.#dtype = dtype;
    this.#unit = updateUnit(adapter);
    const { value, buffers } = gpu.collect(() => createBuffers(gpu, adapter, config, this.#unit));
    this.#buffers = value;
    this.#owned = buffers;
  }

  /** The rows with their update, rounded to nearest even, in as many runs as the device needs. */
  async *merge(rows: WeightRows): AsyncGenerator<MergedRows, void, undefined> {
    const { layer, projection, dtype, bytes } = rows;
    const gpu = this.#gpu;
    const module = this.#buffers.modules.get(projection)!;
    const factors = this.#adapter.layers[layer]![projection]!;
    if (module.layer !== layer) {
      writeMatrix(gpu, module.a, factors.a);
      module.layer = layer;
    }
    const commands = this.#commands(module, dtype);
    await gpu.pipelines.ready();
    const rowBytes = module.inFeatures * DTYPE_BYTES[dtype];
    const rowCount = bytes.byteLength / rowBytes;
    for (let done = 0; done < rowCount; done += module.runRows) {
      const count = Math.min(module.runRows, rowCount - done);
      const firstRow = rows.firstRow + done;
      const { r } = this.#adapter;
      writeMatrix(gpu, { ...module.b, rows: count }, factors.b.subarray(firstRow * r, (firstRow + count) * r));
      const dense = bytes.subarray(done * rowBytes, (done + count) * rowBytes);
      gpu.write(this.#buffers.w, 0, padRows(dense, count, module.inFeatures, dtype));
      this.#buffers.count.set(count);
      yield { firstRow, ...(await this.#run(module, commands, count)) };
    }
  }

  release(): void {
    for (const buffer of this.#owned) this.#gpu.release(buffer);
    this.#gpu.releaseStaging();
  }

  #commands(module: Module, wDtype: FloatDtype): Command[] {
    let commands = module.commands.get(wDtype);
    if (!commands) {
      commands = mergeRows(this.#gpu, {
        count: this.#buffers.count,
        w: wholeBuffer(this.#buffers.w),
        wDtype,
        a: module.a,
        b: module.b,
        v: wholeBuffer(this.#buffers.v),
        vDtype: this.#dtype,
        sums: wholeBuffer(this.#buffers.sums),
        module: module.uniform,
      });
      module.commands.set(wDtype, commands);
    }
    return commands;
  }

  async #run(module: Module, commands: readonly Command[], rows: number): Promise<Pick<MergedRows, "bytes" | "sums">> {
    const gpu = this.#gpu;
    const workgroups = mergeWorkgroups(gpu, rows, module.inFeatures);
    const paddedBytes = rows * padded(module.inFeatures) * DTYPE_BYTES[this.#dtype];
    const readback = gpu.readback(
      { ...front(this.#buffers.v, paddedBytes), isRewritten: true },
      { ...front(this.#buffers.sums, workgroups * MERGE_SUMS * 4), isRewritten: true },
    );
    gpu.submit(record(gpu, "merge", commands, readback));
    const [merged, partials] = await readback.finish();
    const sums = noSums();
    addPartialSums(sums, new Float32Array(partials!), this.#unit, rows * module.inFeatures);
    return { bytes: dropPadding(new Uint8Array(merged!), rows, module.inFeatures, this.#dtype), sums };
  }
}

/** Bytes that merging an adapter of this shape takes on the GPU while it lasts, its results' way to the host included. */
export function mergeBufferBytes(gpu: Gpu, settings: LoraSettings, config: LlamaConfig): number {
  const { value, buffers } = gpu.collect(() => createBuffers(gpu, settings, config, 1));
  const resultBytes = value.v.sizeBytes + value.sums.sizeBytes;
  for (const buffer of buffers) gpu.release(buffer);
  return totalBytes(buffers) + stagingBytes(resultBytes);
}

function createBuffers(gpu: Gpu, adapter: LoraSettings, config: LlamaConfig, unit: number): MergeBuffers {
  const modules = adapter.targetModules.map((projection) => {
    return [projection, createModule(gpu, adapter, config, projection, unit)] as const;
  });
  const largest = (size: (module: Module) => number) => Math.max(...modules.map(([, module]) => size(module)));
  const runBytes = largest(({ runRows, inFeatures }) => runRows * padded(inFeatures) * 4);
  const workgroups = largest(({ runRows, inFeatures }) => mergeWorkgroups(gpu, runRows, inFeatures));
  const runRows = largest((module) => module.runRows);
  return {
    modules: new Map(modules),
    count: new RowCount(gpu, "merge rows", runRows),
    w: gpu.buffer("merge base rows", runBytes),
    v: gpu.buffer("merge merged rows", runBytes),
    sums: gpu.buffer("merge sums", workgroups * MERGE_SUMS * 4),
  };
}

function createModule(
  gpu: Gpu,
  adapter: LoraSettings,
  config: LlamaConfig,
  projection: Projection,
  unit: number,
): Module {
  const { r } = adapter;
  const { inFeatures, outFeatures } = projectionSize(config, projection);
  const limitElements = Math.min(MAX_RUN_ELEMENTS, Math.floor(gpu.bindingLimitBytes / 4));
  const limitRows = Math.floor(limitElements / Math.max(padded(inFeatures), padded(r)) / PADDING) * PADDING;
  if (limitRows === 0 || matrixBytes(r, inFeatures) > gpu.bindingLimitBytes) {
    throw new DeviceError(
      `merging ${projection}, ${inFeatures} wide, at rank ${r} exceeds the ${gpu.bindingLimitBytes} bytes that this device can bind; choose another with --device`,
    );
  }
  const runRows = Math.min(outFeatures, limitRows, MAX_MERGE_ROWS);
  return {
    inFeatures,
    runRows,
    uniform: createMergeModule(gpu, { cols: inFeatures, rank: r, scale: loraScale(adapter), unit }),
    a: createMatrix(gpu, `merge ${projection} lora_A`, r, inFeatures),
    b: createMatrix(gpu, `merge ${projection} lora_B`, runRows, r),
    layer: -1,
    commands: new Map(),
  };
}

function front(buffer: GpuBuffer, sizeBytes: number): BufferRange {
  return { buffer, offsetBytes: 0, sizeBytes };
}
