import { type BufferRange, type GpuBuffer, read, readWrite, uniform, wholeBuffer } from "../gpu/buffer.ts";
import { type Command, dispatch, type Work } from "../gpu/commands.ts";
import type { Gpu } from "../gpu/gpu.ts";
import type { FloatDtype } from "../weights/half.ts";
import { DTYPE_NUMBER } from "./float-formats.ts";
import { gridOf } from "./grid.ts";
import { padded, type Weight, type WeightFormat, weightRowBytes } from "./matrix.ts";

// QLoRA's 4-bit NormalFloat with double quantization (Dettmers et al. 2023, section 3), laid out as bitsandbytes does.
// Quantizing a tensor: `quantizeNf4` for each piece as it arrives, then `quantizeAbsmax` once. In training:
// `dequantizeNf4` into a weight that is used again and again.

/** Elements of the dense matrix that share an absmax, and absmax that share an absmax2. */
export const NF4_BLOCK = 64;
const ABSMAX_BLOCK = 256;

/** A frozen row-major weight (rows, cols) in 4 bits. A block may cross rows: elements are counted without padding. */
export interface Nf4Weight {
  readonly rows: number;
  readonly cols: number;
  /** Two 4-bit codes to a byte, the first in the high half. */
  readonly codes: BufferRange;
  /** (blocks) bytes: codes of absmax − offset. */
  readonly absmaxCodes: BufferRange;
  /** (blocks / 256) f32. */
  readonly absmax2: BufferRange;
  /** (1) f32: the mean of absmax. Not finite where an element of the tensor is not. */
  readonly offset: BufferRange;
  /** (256) f32: the signed dynamic map, which all weights may share. */
  readonly map: BufferRange;
  /** Uniform: elements, cols, blocks, and a zero. */
  readonly shape: GpuBuffer;
}

/** f32 absmax that a tensor of so many elements has. */
export function nf4Blocks(elements: number): number {
  return Math.ceil(elements / NF4_BLOCK);
}

const WORD_BYTES = 4;
/** What `Gpu.buffer` and `Gpu.uniform` round sizes up to. */
const BUFFER_UNIT = 16;

function bufferSizes(elements: number) {
  const blocks = nf4Blocks(elements);
  return {
    codes: Math.ceil(elements / 8) * WORD_BYTES,
    absmaxCodes: Math.ceil(blocks / 4) * WORD_BYTES,
    absmax2: Math.ceil(blocks / ABSMAX_BLOCK) * WORD_BYTES,
    offset: WORD_BYTES,
    shape: 4 * WORD_BYTES,
  };
}

/** Bytes of the buffers that `createNf4Weight` makes: 0.516 for each element of a large matrix. */
export function nf4Bytes(rows: number, cols: number): number {
  const sizes = Object.values(bufferSizes(rows * cols));
  return sizes.reduce((sum, size) => sum + Math.ceil(size / BUFFER_UNIT) * BUFFER_UNIT, 0);
}

/**
 * Buffers for a weight in 4 bits.
 *
 * @param map 256 f32: `dynamicMap(true)`
 */
export function createNf4Weight(gpu: Gpu, label: string, rows: number, cols: number, map: BufferRange): Nf4Weight {
  const elements = rows * cols;
  const sizes = bufferSizes(elements);
  if (sizes.codes > gpu.bindingLimitBytes) {
    throw new Error(
      `internal: ${label} in 4 bits takes ${sizes.codes} bytes, over the binding limit of ${gpu.bindingLimitBytes}`,
    );
  }
  const buffer = (name: string, sizeBytes: number) => wholeBuffer(gpu.buffer(`${label} ${name}`, sizeBytes));
  return {
    rows,
    cols,
    codes: buffer("codes", sizes.codes),
    absmaxCodes: buffer("absmax codes", sizes.absmaxCodes),
    absmax2: buffer("absmax2", sizes.absmax2),
    offset: buffer("offset", sizes.offset),
    map,
    shape: gpu.uniform(`${label} shape`, new Uint32Array([elements, cols, nf4Blocks(elements), 0])),
  };
}

/**
 * Which elements of a tensor the next piece holds: known to the kernel through a uniform and to the host for the size of
 * the dispatch, so that the commands of `quantizeNf4` are made once for a tensor and replayed for each of its pieces.
 */
export class Nf4Piece {
  readonly uniform: GpuBuffer;
  readonly #gpu: Gpu;
  #elements = 0;

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
    this.uniform = gpu.uniform("nf4 piece", new Uint32Array(4));
  }

  get elements(): number {
    return this.#elements;
  }

  /**
   * Takes effect for command buffers submitted after this call.
   *
   * @param firstElement a multiple of 64, as `elements` is in all pieces but the last
   */
  set(firstElement: number, elements: number): void {
    if (firstElement % NF4_BLOCK !== 0) {
      throw new Error(`internal: a piece must begin with a block of ${NF4_BLOCK} elements, not at ${firstElement}`);
    }
    this.#elements = elements;
    this.#gpu.write(this.uniform, 0, new Uint32Array([firstElement / NF4_BLOCK, elements, 0, 0]));
  }
}

/** As {@link DTYPE_NUMBER} numbers what the formats hold. */
const FORMAT_NUMBER = { bf16: 0, f16: 1, f32: 2 } as const satisfies Record<WeightFormat, number>;

export interface QuantizeNf4 {
  readonly piece: Nf4Piece;
  /** The piece's elements in the file's layout and dtype, without padding: little endian, whole u32. */
  readonly values: BufferRange;
  readonly dtype: FloatDtype;
  readonly weight: Nf4Weight;
  /** At least `nf4Blocks` of the whole tensor, f32: the piece's are written, for `quantizeAbsmax`. */
  readonly absmax: BufferRange;
}

/** Codes and absmax of a piece of a tensor: `kernels/quantize/nf4_quantize.wgsl`. */
export function quantizeNf4(gpu: Gpu, { piece, values, dtype, weight, absmax }: QuantizeNf4): Command[] {
  checkAbsmax(weight, absmax);
  const elementBytes = dtype === "F32" ? 4 : 2;
  return [
    dispatch(
      gpu,
      {
        kernel: "quantize/nf4_quantize",
        library: ["float_formats", "quotient"],
        constants: { DTYPE: DTYPE_NUMBER[dtype] },
      },
      [uniform(piece.uniform), read(values), readWrite(weight.codes), readWrite(absmax)],
      () => gridOf(Math.ceil(piece.elements / 512)),
      () => ({ flops: 0, bytes: piece.elements * (elementBytes + 0.5 + 4 / NF4_BLOCK) }),
    ),
  ];
}

/**
 * The mean of a tensor's absmax, and these in 8 bits: `kernels/quantize/nf4_mean.wgsl` and `nf4_absmax.wgsl`, once all
 * pieces are quantized. `absmax` may then be used for the next tensor.
 */
export function quantizeAbsmax(gpu: Gpu, weight: Nf4Weight, absmax: BufferRange): Command[] {
  checkAbsmax(weight, absmax);
  const blocks = nf4Blocks(weight.rows * weight.cols);
  return [
    dispatch(
      gpu,
      { kernel: "quantize/nf4_mean", library: ["fused", "quotient"] },
      [uniform(weight.shape), read(absmax), readWrite(weight.offset)],
      () => [1, 1, 1],
      () => ({ flops: blocks, bytes: blocks * 4 }),
    ),
    dispatch(
      gpu,
      { kernel: "quantize/nf4_absmax", library: ["nearest_code", "quotient"] },
      [
        uniform(weight.shape),
        read(weight.map),
        read(absmax),
        read(weight.offset),
        readWrite(weight.absmaxCodes),
        readWrite(weight.absmax2),
      ],
      () => gridOf(Math.ceil(blocks / ABSMAX_BLOCK)),
      () => ({ flops: 0, bytes: blocks * 5 }),
    ),
  ];
}

/** Groups of 8 elements that a workgroup of `nf4_dequantize` writes. */
const GROUPS_PER_WORKGROUP = 1024;

/** All of a weight in the target's format, padding included: `kernels/quantize/nf4_dequantize.wgsl`. */
export function dequantizeNf4(gpu: Gpu, weight: Nf4Weight, target: Weight): Command[] {
  const { rows, cols } = weight;
  if (target.rows !== rows || target.cols !== cols) {
    throw new Error(`internal: ${rows} x ${cols} in 4 bits cannot become ${target.rows} x ${target.cols}`);
  }
  return target.parts.map((part) => {
    const rowBytes = weightRowBytes(target.format, cols);
    if (part.range.sizeBytes !== padded(part.rows) * rowBytes) {
      throw new Error(`internal: ${part.range.sizeBytes} bytes bound for ${part.rows} rows of ${rowBytes} bytes`);
    }
    const groups = (padded(part.rows) * padded(cols)) / 8;
    return dispatch(
      gpu,
      {
        kernel: "quantize/nf4_dequantize",
        library: ["float_formats"],
        constants: { FORMAT: FORMAT_NUMBER[target.format], FIRST_ROW: part.firstRow },
      },
      [
        uniform(weight.shape),
        read(weight.map),
        read(weight.codes),
        read(weight.absmaxCodes),
        read(weight.absmax2),
        read(weight.offset),
        readWrite(part.range),
      ],
      () => gridOf(Math.ceil(groups / GROUPS_PER_WORKGROUP)),
      () => dequantizeWork(part.rows * cols, part.range.sizeBytes),
    );
  });
}

function dequantizeWork(elements: number, writtenBytes: number): Work {
  return { flops: 0, bytes: elements * (0.5 + 1 / NF4_BLOCK) + writtenBytes };
}

function checkAbsmax({ rows, cols }: Nf4Weight, absmax: BufferRange): void {
  const needed = nf4Blocks(rows * cols) * 4;
  if (absmax.sizeBytes < needed) {
    throw new Error(`internal: absmax of ${rows} x ${cols} need ${needed} bytes, got ${absmax.sizeBytes}`);
  }
}
