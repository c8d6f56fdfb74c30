import { type BufferRange, read, readWrite, uniform } from "../gpu/buffer.ts";
import { type Command, dispatch } from "../gpu/commands.ts";
import type { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { attentionWork } from "./attention-work.ts";
import { type Matrix, padded, rowWork } from "./matrix.ts";
import { type TensorAttention, tensorAttentionBackward, tensorAttentionForward } from "./tensor-attention.ts";

export interface AttentionShape {
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headDim: number;
}

export interface AttentionForward {
  readonly count: RowCount;
  readonly shape: AttentionShape;
  /** (T, 4) u32: prefix start and end, own start and end, as row numbers of k and v. */
  readonly visible: BufferRange;
  /** q (T, heads · headDim). */
  readonly q: Matrix;
  /** k, v (keys, keyValueHeads · headDim). */
  readonly k: Matrix;
  readonly v: Matrix;
  /** o (T, heads · headDim). */
  readonly o: Matrix;
  /** (T, heads, 2) f32: logsumexp, and δ once backward has run. */
  readonly stats: BufferRange;
  /** Pairs of a query and a key that it sees, in the batch at hand: for a profile. */
  readonly scores?: (() => number) | undefined;
  /** With it, the products are taken on subgroup matrices: f16 factors, f32 sums. */
  readonly tensor?: TensorAttention | null;
}

/**
 * Causal attention over packed pairs that share their prompt: `kernels/attention/forward.wgsl`, or
 * `kernels/attention/tensor_forward.wgsl` on subgroup matrices, or, where there is never more than one row,
 * `kernels/attention/decode.wgsl`.
 */
export function attentionForward(gpu: Gpu, op: AttentionForward): Command[] {
  const { count, shape, visible, q, k, v, o, stats } = op;
  if (count.max === 1) return [attentionDecode(gpu, op)];
  if (op.tensor) return tensorAttentionForward(gpu, op, op.tensor);
  return [
    dispatch(
      gpu,
      { kernel: "attention/forward", prelude: vectors(shape), constants: strides(shape) },
      [
        uniform(count.uniform),
        read(visible),
        read(q.range),
        read(k.range),
        read(v.range),
        readWrite(o.range),
        readWrite(stats),
      ],
      () => [Math.ceil(count.value / 64), shape.heads, 1],
      attentionWork(op, 2, q, k, v, o),
    ),
  ];
}

/** `attentionForward` of one row. */
function attentionDecode(gpu: Gpu, { count, shape, visible, q, k, v, o, stats }: AttentionForward): Command {
  const { KEY_STRIDE, GROUP, SCALE } = strides(shape);
  const LANES = gpu.reductionLanes;
  const prelude = {
    ...vectors(shape),
    "const LANES": `${LANES}u`,
    "const OWN_VECS": `${Math.ceil(shape.headDim / vectorSize(shape) / LANES)}u`,
  };
  return dispatch(
    gpu,
    { kernel: "attention/decode", prelude, constants: { KEY_STRIDE, GROUP, SCALE } },
    [read(visible), read(q.range), read(k.range), read(v.range), readWrite(o.range), readWrite(stats)],
    () => [shape.heads, count.value, 1],
  );
}

export interface AttentionBackward extends AttentionForward {
  /** (T) u32: key j is seen by the queries from j up to, not including, queryEnd[j]. */
  readonly queryEnd: BufferRange;
  /** The gradient of o, and the gradients to write, shaped like o, q, k and v. */
  readonly dO: Matrix;
  readonly dQ: Matrix;
  readonly dK: Matrix;
  readonly dV: Matrix;
}

/**
 * The gradients of `attentionForward`: `kernels/attention/{delta,backward_query,backward_key}.wgsl`, the last two on subgroup
 * matrices where `tensor` is given.
 */
export function attentionBackward(gpu: Gpu, op: AttentionBackward): Command[] {
  const { count, shape, visible, queryEnd, q, k, v, o, stats, dO, dQ, dK, dV } = op;
  const prelude = vectors(shape);
  const constants = strides(shape);
  const { QUERY_STRIDE, QUERY_HEADS } = constants;
  const delta = dispatch(
    gpu,
    { kernel: "attention/delta", prelude, constants: { QUERY_STRIDE, QUERY_HEADS } },
    [uniform(count.uniform), read(o.range), read(dO.range), readWrite(stats)],
    () => [Math.ceil(count.value / 64), shape.heads, 1],
    rowWork(count, o, dO),
  );
  if (op.tensor) return [delta, ...tensorAttentionBackward(gpu, op, op.tensor)];
  return [
    delta,
    dispatch(
      gpu,
      { kernel: "attention/backward_query", prelude, constants },
      [
        uniform(count.uniform),
        read(visible),
        read(q.range),
        read(k.range),
        read(v.range),
        read(stats),
        read(dO.range),
        readWrite(dQ.range),
      ],
      () => [Math.ceil(count.value / 64), shape.heads, 1],
      attentionWork(op, 3, q, k, v, dO, dQ),
    ),
    dispatch(
      gpu,
      { kernel: "attention/backward_key", prelude, constants },
      [
        uniform(count.uniform),
        read(queryEnd),
        read(q.range),
        read(k.range),
        read(v.range),
        read(stats),
        read(dO.range),
        readWrite(dK.range),
        readWrite(dV.range),
      ],
      () => [Math.ceil(count.value / 64), shape.keyValueHeads, 1],
      attentionWork(op, 4, q, k, v, dO, dK, dV),
    ),
  ];
}

/** Elements of the widest vector that divides a head: rotary embedding makes every head even. */
function vectorSize({ headDim }: AttentionShape): 2 | 4 {
  return headDim % 4 === 0 ? 4 : 2;
}

function vectors(shape: AttentionShape): Record<string, string> {
  const size = vectorSize(shape);
  return { "alias Vec": `vec${size}f`, "const HEAD_VECS": `${shape.headDim / size}u` };
}

function strides(shape: AttentionShape) {
  const size = vectorSize(shape);
  return {
    QUERY_STRIDE: padded(shape.heads * shape.headDim) / size,
    KEY_STRIDE: padded(shape.keyValueHeads * shape.headDim) / size,
    QUERY_HEADS: shape.heads,
    GROUP: shape.heads / shape.keyValueHeads,
    SCALE: 1 / Math.sqrt(shape.headDim),
  };
}
