import { type GpuBuffer, wholeBuffer } from "../gpu/buffer.ts";
import { record } from "../gpu/commands.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { CONVERT_ROWS_WORDS, convertRows, convertRowsWords, SOURCE_SLACK_BYTES } from "../ops/convert.ts";
import { padded, type Weight, type WeightFormat, type WeightPart, weightRowBytes } from "../ops/matrix.ts";
import { NF4_BLOCK, type Nf4Weight } from "../ops/nf4.ts";
import { decodeFloats, type FloatDtype } from "../weights/half.ts";
import type { TensorTarget } from "./base-weights.ts";
import { Nf4Upload } from "./nf4-upload.ts";
import { UploadWindow } from "./upload-window.ts";

/** What was found in a tensor: elements that f16 does not hold, rounded or beyond its range. */
export interface HalfLoss {
  readonly inexact: number;
  readonly overflowing: number;
  /** Whether a tensor in 4 bits has an element that is not finite, which no others are asked for. */
  readonly isNotFinite: boolean;
}

/** Largest run of rows that is converted at once. */
const STAGING_BYTES = 16 * 2 ** 20;

/** Rows of one piece that go into one part of a weight. */
interface Run {
  readonly part: WeightPart;
  /** In the part. */
  readonly firstRow: number;
  readonly rows: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/**
 * Brings tensors from files to the GPU. Their bytes as the file holds them are written into a staging buffer, and a kernel
 * makes padded rows in the weight's format of them; rows that lie in the file as in the weight are written there at once.
 * Owns two staging buffers, so that one is written while the other is converted; at most three runs are on their way.
 */
export class TensorUploader {
  readonly #gpu: Gpu;
  readonly #tensors: ReadonlyMap<string, TensorTarget>;
  /** In the order of their losses. */
  readonly #names: readonly string[];
  readonly #stagings: readonly [GpuBuffer, GpuBuffer];
  readonly #uniform: GpuBuffer;
  readonly #losses: GpuBuffer;
  readonly #owned: readonly GpuBuffer[];
  readonly #window: UploadWindow;
  readonly #stagingBytes: number;
  /** Tensors of which a part is quantized. */
  readonly #nf4 = new Map<string, Nf4Upload>();
  #runs = 0;

  constructor(gpu: Gpu, tensors: ReadonlyMap<string, TensorTarget>) {
    this.#gpu = gpu;
    this.#tensors = tensors;
    this.#names = [...tensors.keys()];
    this.#window = new UploadWindow(gpu);
    const bindingBytes = Math.min(
      STAGING_BYTES + SOURCE_SLACK_BYTES,
      gpu.bindingLimitBytes - (gpu.bindingLimitBytes % 16),
    );
    this.#stagingBytes = bindingBytes - SOURCE_SLACK_BYTES;
    const { value, buffers } = gpu.collect(() => ({
      stagings: [this.#createStaging(), this.#createStaging()] as const,
      uniform: gpu.uniform("rows to convert", new Uint32Array(CONVERT_ROWS_WORDS)),
      losses: gpu.buffer("losses of f16", tensors.size * 8),
    }));
    this.#stagings = value.stagings;
    this.#uniform = value.uniform;
    this.#losses = value.losses;
    this.#owned = buffers;
  }

  /**
   * Puts a run of a tensor's elements, as a file holds them, into its buffer: whole rows for a weight. Resolves when there
   * is room for the next; the bytes may be reused then. Throws what went wrong on the device.
   */
  async upload(name: string, dtype: FloatDtype, firstElement: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const target = this.#tensors.get(name)!;
    if (target.kind === "vector") {
      const values = new Float32Array(bytes.byteLength / elementBytes(dtype));
      decodeFloats(dtype, bytes, values);
      this.#gpu.write(target.range.buffer, target.range.offsetBytes + firstElement * 4, values);
      await this.#window.wrote();
      return;
    }
    if (target.kind === "nf4") {
      await this.#quantize(name, target.weight, dtype, firstElement, bytes);
      return;
    }
    const tensor = this.#names.indexOf(name);
    for (const run of this.#split(target.weight, dtype, firstElement / target.weight.cols, bytes)) {
      await this.#put(target.weight, dtype, tensor, run);
    }
  }

  /** Waits until all tensors are in their buffers. Returns what was found in them. */
  async finish(): Promise<ReadonlyMap<string, HalfLoss>> {
    await this.#window.drain();
    const in4Bit = [...this.#tensors].flatMap(([name, target]) => (target.kind === "nf4" ? [{ name, ...target }] : []));
    const [bytes, ...offsets] = await this.#gpu.read(
      wholeBuffer(this.#losses),
      ...in4Bit.map(({ weight }) => ({ ...weight.offset, sizeBytes: 4 })),
    );
    const losses = new Uint32Array(bytes!);
    const notFinite = new Set(
      in4Bit.filter((_, i) => !Number.isFinite(new Float32Array(offsets[i]!)[0])).map(({ name }) => name),
    );
    return new Map(
      this.#names.map((name, tensor) => [
        name,
        {
          inexact: losses[2 * tensor]!,
          overflowing: losses[2 * tensor + 1]!,
          isNotFinite: notFinite.has(name),
        },
      ]),
    );
  }

  destroy(): void {
    for (const upload of this.#nf4.values()) upload.release();
    for (const buffer of this.#owned) this.#gpu.release(buffer);
  }

  /** Pieces of whole blocks of a tensor in 4 bits. */
  async #quantize(
    name: string,
    weight: Nf4Weight,
    dtype: FloatDtype,
    firstElement: number,
    bytes: Uint8Array<ArrayBuffer>,
  ): Promise<void> {
    const perElement = elementBytes(dtype);
    const runBytes = Math.floor(this.#stagingBytes / perElement / NF4_BLOCK) * NF4_BLOCK * perElement;
    let upload = this.#nf4.get(name);
    if (!upload) {
      upload = new Nf4Upload(this.#gpu, weight);
      this.#nf4.set(name, upload);
    }
    for (let done = 0; done < bytes.byteLength; done += runBytes) {
      const run = bytes.subarray(done, done + runBytes);
      const staging = this.#stagings[this.#runs++ % 2]!;
      await upload.prepare(staging, dtype);
      // From here to the submission nothing waits: another tensor's piece may use the same buffer next.
      this.#stage(staging, run);
      const isLast = upload.submit(staging, firstElement + done / perElement, run.byteLength / perElement);
      if (isLast) this.#nf4.delete(name);
      await this.#window.wrote();
    }
  }

  #createStaging(): GpuBuffer {
    return this.#gpu.buffer("staging of weights", this.#stagingBytes + SOURCE_SLACK_BYTES);
  }

  /** Runs that lie in one part and fit into the staging buffer. */
  *#split(weight: Weight, dtype: FloatDtype, firstRow: number, bytes: Uint8Array<ArrayBuffer>): Generator<Run> {
    const rowBytes = weight.cols * elementBytes(dtype);
    const endRow = firstRow + bytes.byteLength / rowBytes;
    const mostRows = Math.floor(this.#stagingBytes / rowBytes);
    if (mostRows === 0) throw new Error(`internal: a row of ${rowBytes} bytes exceeds a binding`);
    for (const part of weight.parts) {
      const end = Math.min(endRow, part.firstRow + part.rows);
      for (let begin = Math.max(firstRow, part.firstRow); begin < end; begin += mostRows) {
        const rows = Math.min(mostRows, end - begin);
        const offset = (begin - firstRow) * rowBytes;
        yield {
          part,
          firstRow: begin - part.firstRow,
          rows,
          bytes: bytes.subarray(offset, offset + rows * rowBytes),
        };
      }
    }
  }

  async #put({ format, cols }: Weight, dtype: FloatDtype, tensor: number, run: Run): Promise<void> {
    const gpu = this.#gpu;
    if (isKeptAsItLies(format, cols, dtype)) {
      const { buffer, offsetBytes } = run.part.range;
      this.#window.write(buffer, offsetBytes + run.firstRow * weightRowBytes(format, cols), run.bytes);
      await this.#window.wrote();
      return;
    }
    const staging = this.#stagings[this.#runs++ % 2]!;
    const op = {
      source: wholeBuffer(staging),
      dtype,
      rows: run.rows,
      cols,
      uniform: this.#uniform,
      target: run.part.range,
      format,
      losses: wholeBuffer(this.#losses),
    };
    const command = convertRows(gpu, op);
    await command.pipeline.ready;
    // From here to the submission nothing waits: the next run writes the same uniform.
    this.#stage(staging, run.bytes);
    gpu.write(this.#uniform, 0, convertRowsWords(op, run.firstRow, tensor));
    gpu.submit(record(gpu, "convert weights", [command]));
    await this.#window.wrote();
  }

  /** Any number of bytes, where a buffer is written in words. */
  #stage(staging: GpuBuffer, bytes: Uint8Array<ArrayBuffer>): void {
    const wholeBytes = bytes.byteLength - (bytes.byteLength % 4);
    this.#window.write(staging, 0, bytes.subarray(0, wholeBytes));
    if (wholeBytes === bytes.byteLength) return;
    const last = new Uint8Array(4);
    last.set(bytes.subarray(wholeBytes));
    this.#window.write(staging, wholeBytes, last);
  }
}

/** f16 is not, because its infinities and NaN are to be found. */
function isKeptAsItLies(format: WeightFormat, cols: number, dtype: FloatDtype): boolean {
  const isSame = (format === "bf16" && dtype === "BF16") || (format === "f32" && dtype === "F32");
  return isSame && padded(cols) === cols;
}

function elementBytes(dtype: FloatDtype): number {
  return dtype === "F32" ? 4 : 2;
}
