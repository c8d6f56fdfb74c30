import { read, readWrite } from "../gpu/buffer.ts";
import { type Command, dispatch } from "../gpu/commands.ts";
import type { Gpu } from "../gpu/gpu.ts";
import type { AttentionBackward, AttentionForward, AttentionShape } from "./attention.ts";
import { type AttentionTiles, attentionFragments, attentionTiles, type TileCounts } from "./attention-tiles.ts";
import { attentionWork } from "./attention-work.ts";
import { padded } from "./matrix.ts";
import { type PeakSlots, peakOf, SLOT_BYTES } from "./peak.ts";
import { createRowTiles, type RowTiles } from "./row-tiles.ts";
import { TENSOR_DIRECTIVES } from "./tensor.ts";

/** What attention on subgroup matrices needs besides its operands. */
export interface TensorAttention {
  readonly tiles: Readonly<Record<TensorKernel, AttentionTiles>>;
  /** By the rows of a tile: which rows of the batch each has. To be set for each batch with `setRowTiles`. */
  readonly rowTiles: ReadonlyMap<number, RowTiles>;
  /** For backward: places for the largest |dO| and |v|. Null for a model that only scores. */
  readonly peaks: PeakSlots | null;
}

type TensorKernel = keyof typeof TILE_COUNTS;

const TILE_COUNTS = {
  forward: { rowTiles: 1, columnTiles: 1, scoreTiles: 1, weightTiles: 1 },
  backward_query: { rowTiles: 2, columnTiles: 2, scoreTiles: 2, weightTiles: 1 },
  backward_key: { rowTiles: 2, columnTiles: 2, scoreTiles: 2, weightTiles: 2 },
} as const satisfies Record<string, TileCounts>;

/** Slots of `peaks` that a backward pass takes. */
export const ATTENTION_PEAKS = 2;

export interface TensorAttentionOptions {
  readonly shape: AttentionShape;
  /** Rows of a batch at most. */
  readonly maxRows: number;
  readonly peaks: PeakSlots | null;
  /** Less than the adapter's in tests of smaller tiles. */
  readonly workgroupBytes?: number | undefined;
}

/** Null where the adapter has no subgroup matrices, or heads of this size do not fit into its workgroups. */
export function createTensorAttention(gpu: Gpu, options: TensorAttentionOptions): TensorAttention | null {
  const { shape, maxRows, peaks } = options;
  if (!gpu.fragments) return null;
  const { workgroupBytes = gpu.fragments.workgroupBytes } = options;
  const of = (kernel: TensorKernel) => attentionTiles(gpu.fragments!, shape, TILE_COUNTS[kernel], workgroupBytes);
  const [forward, backwardQuery, backwardKey] = [of("forward"), of("backward_query"), of("backward_key")];
  if (!forward || !backwardQuery || !backwardKey) return null;
  const rows = new Set([forward, backwardQuery, backwardKey].map(rowsOf));
  return {
    tiles: { forward, backward_query: backwardQuery, backward_key: backwardKey },
    rowTiles: new Map([...rows].map((count) => [count, createRowTiles(gpu, count, maxRows)])),
    peaks,
  };
}

/** `attentionForward` on subgroup matrices: `kernels/attention/tensor_forward.wgsl`. */
export function tensorAttentionForward(gpu: Gpu, op: AttentionForward, tensor: TensorAttention): Command[] {
  const { shape, visible, q, k, v, o, stats } = op;
  const { tiles, rowTiles } = kernelOf(tensor, "forward");
  return [
    dispatch(
      gpu,
      variant("forward", tiles, shape),
      [
        read(rowTiles.range),
        read(visible),
        read(q.range),
        read(k.range),
        read(v.range),
        readWrite(o.range),
        readWrite(stats),
      ],
      () => [rowTiles.count, shape.heads, 1],
      attentionWork(op, 2, q, k, v, o),
    ),
  ];
}

/**
 * `attentionBackward` on subgroup matrices, once δ is there: `kernels/attention/tensor_backward_{query,key}.wgsl`. The peaks
 * have been cleared before.
 */
export function tensorAttentionBackward(gpu: Gpu, op: AttentionBackward, tensor: TensorAttention): Command[] {
  const { count, shape, visible, queryEnd, q, k, v, stats, dO, dQ, dK, dV } = op;
  if (!tensor.peaks) throw new Error("internal: attention's backward pass without places for its peaks");
  const peaks = tensor.peaks.take(ATTENTION_PEAKS);
  const secondPeak = { ...peaks, offsetBytes: peaks.offsetBytes + SLOT_BYTES };
  const operands = [read(q.range), read(k.range), read(v.range), read(stats), read(dO.range), read(peaks)];
  const [ofQuery, ofKey] = [kernelOf(tensor, "backward_query"), kernelOf(tensor, "backward_key")];
  return [
    peakOf(gpu, { count, x: dO, factor: null, peak: peaks }),
    peakOf(gpu, { count, x: v, factor: null, peak: secondPeak }),
    dispatch(
      gpu,
      variant("backward_query", ofQuery.tiles, shape),
      [read(ofQuery.rowTiles.range), read(visible), ...operands, readWrite(dQ.range)],
      () => [ofQuery.rowTiles.count, shape.heads, 1],
      attentionWork(op, 3, q, k, v, dO, dQ),
    ),
    dispatch(
      gpu,
      variant("backward_key", ofKey.tiles, shape),
      [read(ofKey.rowTiles.range), read(queryEnd), ...operands, readWrite(dK.range), readWrite(dV.range)],
      () => [ofKey.rowTiles.count, shape.keyValueHeads, 1],
      attentionWork(op, 4, q, k, v, dO, dK, dV),
    ),
  ];
}

function kernelOf({ tiles, rowTiles }: TensorAttention, kernel: TensorKernel) {
  return { tiles: tiles[kernel], rowTiles: rowTiles.get(rowsOf(tiles[kernel]))! };
}

/** The files of the kernels, and of kernels/library that each calls. */
const SOURCES = {
  forward: { kernel: "attention/tensor_forward", library: ["pack_f16", "attention_tiles", "attention_rows"] },
  backward_query: {
    kernel: "attention/tensor_backward_query",
    library: ["pack_f16", "attention_tiles", "attention_rows", "peak_scale", "gradient_scale"],
  },
  backward_key: {
    kernel: "attention/tensor_backward_key",
    library: ["pack_f16", "attention_tiles", "peak_scale", "gradient_scale"],
  },
} as const satisfies Record<TensorKernel, { readonly kernel: string; readonly library: readonly string[] }>;

function variant(kernel: TensorKernel, tiles: AttentionTiles, { heads, keyValueHeads, headDim }: AttentionShape) {
  return {
    ...SOURCES[kernel],
    directives: TENSOR_DIRECTIVES,
    generated: attentionFragments(tiles, headDim, TILE_COUNTS[kernel]),
    constants: {
      QUERY_STRIDE: padded(heads * headDim) / 4,
      KEY_STRIDE: padded(keyValueHeads * headDim) / 4,
      QUERY_HEADS: heads,
      GROUP: heads / keyValueHeads,
      SCALE: 1 / Math.sqrt(headDim),
    },
  };
}

function rowsOf({ subgroups, matrixM }: AttentionTiles): number {
  return subgroups * matrixM;
}
