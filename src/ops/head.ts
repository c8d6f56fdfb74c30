import { type BufferRange, type GpuBuffer, read, readWrite, uniform, wholeBuffer } from "../gpu/buffer.ts";
import { type Command, dispatch } from "../gpu/commands.ts";
import type { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { type HalfRows, type PackedRows, packedRows, packRows } from "./half-rows.ts";
import { matmulNN, matmulNT } from "./matmul.ts";
import { type Matrix, padded, rowWork, type Weight, weightSlice, widenLibrary } from "./matrix.ts";

export interface HeadForward {
  /** R, the rows that predict a token of an answer. */
  readonly count: RowCount;
  /** Hidden rows after the final norm: (R, C). */
  readonly hidden: Matrix;
  /** The head's weight (V, C), frozen. */
  readonly w: Weight;
  /** (R, 2) u32: the chosen and the rejected answer's token, or a number beyond the vocabulary where there is none. */
  readonly targets: BufferRange;
  /** Workspace for one chunk of logits: (R, chunk). */
  readonly logits: Matrix;
  /** (R, 4) f32: largest logit m, Σ exp(l − m), Σ exp(l − m)(l − m), Σ l. */
  readonly state: BufferRange;
  /** (R) u32: the most likely token. */
  readonly best: BufferRange;
  /** (R, 2) f32: the logits of the targets. */
  readonly targetLogits: BufferRange;
  /** (R) f32, workspace: the factor between two chunks' exponentials. */
  readonly scale: BufferRange;
  /** (R, C): Σ exp(l − m) W, which backward needs. Not computed when only log-probabilities are wanted. */
  readonly sums?: Matrix;
  /** With it, and a weight in f16, the products are taken on subgroup matrices. */
  readonly half?: HeadHalf | null;
}

/** Workspaces of products on subgroup matrices. */
export interface HeadHalf {
  /** For the hidden rows: (R, C). */
  readonly hidden: HalfRows;
  /** For one chunk of exponentials: (R, chunk), made by {@link exponentialRows}. Needed for `sums`. */
  readonly exponentials: HalfRows | null;
}

/** What `kernels/library/exponentials_f16.wgsl` multiplies by. */
const EXPONENTIAL_SCALE = 2 ** 14;

/** The same workspace with the factors that all rows of exponentials have. */
export function exponentialRows(gpu: Gpu, { range }: HalfRows, rows: number): HalfRows {
  const factors = new Float32Array(padded(rows)).fill(1 / EXPONENTIAL_SCALE);
  const factor = wholeBuffer(gpu.buffer("factors of exponentials", factors.byteLength));
  gpu.write(factor.buffer, 0, factors);
  return { range, factor };
}

/**
 * The head in one pass over the vocabulary, chunk by chunk: logits, their softmax statistics, and the unscaled gradient of
 * the hidden rows, as attention with W for both keys and values. The whole logits never exist.
 */
export function headForward(gpu: Gpu, op: HeadForward): Command[] {
  const { count, hidden, w, logits, scale, sums } = op;
  const half = op.half && { ...op.half, hidden: packRows(gpu, count, hidden, op.half.hidden) };
  const commands: Command[] = half ? [half.hidden.pack] : [];
  for (const { firstToken, chunk } of chunks(w, logits.cols)) {
    // A last, narrower chunk has rows of its own width in the same workspace.
    const chunkLogits = { ...logits, cols: chunk.rows };
    commands.push(...matmulNT(gpu, { count, x: hidden, packed: half?.hidden.packed, w: chunk, y: chunkLogits }));
    const isPacked = half !== null && half !== undefined && sums !== undefined;
    const packed = isPacked ? exponentialsOf(half.exponentials, chunkLogits) : null;
    commands.push(headChunk(gpu, op, firstToken, chunk, packed));
    if (sums) {
      const prior = firstToken === 0 ? "drop" : { rowScale: scale };
      commands.push(...matmulNN(gpu, { count, x: chunkLogits, packed, w: chunk, y: sums, prior }));
    }
  }
  return commands;
}

function exponentialsOf(half: HalfRows | null, { rows, cols }: Matrix): PackedRows {
  if (!half) throw new Error("internal: the head's sums on subgroup matrices, but no workspace for exponentials");
  return packedRows(half, rows, cols);
}

/** The statistics of one chunk of logits, and its exponentials: in f16 where they are to be packed. */
function headChunk(gpu: Gpu, op: HeadForward, firstToken: number, chunk: Weight, packed: PackedRows | null): Command {
  const { count, targets, logits, state, best, targetLogits, scale, sums } = op;
  const chunkLogits = { ...logits, cols: chunk.rows };
  return dispatch(
    gpu,
    {
      kernel: "head/chunk",
      ...(packed && { directives: ["enable f16"] }),
      library: ["chunk", "workgroup_sum", packed ? "exponentials_f16" : "exponentials_f32"],
      constants: {
        CHUNK_STRIDE: padded(chunk.rows),
        EXPONENTIATE: sums !== undefined,
        LANES: gpu.reductionLanes,
      },
    },
    [
      uniform(chunkUniform(gpu, firstToken, chunk)),
      read(targets),
      readWrite(logits.range),
      readWrite(state),
      readWrite(best),
      readWrite(scale),
      readWrite(targetLogits),
      ...(packed ? [readWrite(packed.range)] : []),
    ],
    () => [count.value, 1, 1],
    rowWork(count, ...(sums ? [chunkLogits, chunkLogits] : [chunkLogits])),
  );
}

export interface HeadDivergence {
  readonly count: RowCount;
  /** Hidden rows after the final norm, of the policy and of the reference: (R, C). */
  readonly hidden: Matrix;
  readonly hiddenReference: Matrix;
  readonly w: Weight;
  /** Workspace for one chunk of logits of each: (R, chunk). */
  readonly logits: Matrix;
  readonly logitsReference: Matrix;
  /** Workspaces of products on subgroup matrices for the hidden rows of each, for a weight in f16. */
  readonly half?: { readonly hidden: HalfRows; readonly hiddenReference: HalfRows } | null;
  /** (R, 8) f32: the two vec4 of each row that `kernels/head/divergence.wgsl` explains. */
  readonly state: BufferRange;
}

/** What KL(π ‖ π_ref) of every row is made of, chunk by chunk: `kernels/head/divergence.wgsl`. */
export function headDivergence(gpu: Gpu, op: HeadDivergence): Command[] {
  const { count, w, state, half } = op;
  const sides = [
    { x: op.hidden, logits: op.logits, packing: half && packRows(gpu, count, op.hidden, half.hidden) },
    {
      x: op.hiddenReference,
      logits: op.logitsReference,
      packing: half && packRows(gpu, count, op.hiddenReference, half.hiddenReference),
    },
  ];
  const ofChunks = [...chunks(w, op.logits.cols)].flatMap(({ firstToken, chunk }) => [
    ...sides.flatMap(({ x, logits, packing }) =>
      matmulNT(gpu, { count, x, packed: packing?.packed, w: chunk, y: { ...logits, cols: chunk.rows } }),
    ),
    dispatch(
      gpu,
      {
        kernel: "head/divergence",
        library: ["chunk", "workgroup_sum"],
        constants: { CHUNK_STRIDE: padded(chunk.rows), LANES: gpu.reductionLanes },
      },
      [
        uniform(chunkUniform(gpu, firstToken, chunk)),
        read(op.logits.range),
        read(op.logitsReference.range),
        readWrite(state),
      ],
      () => [count.value, 1, 1],
      rowWork(count, { ...op.logits, cols: chunk.rows }, { ...op.logitsReference, cols: chunk.rows }),
    ),
  ]);
  return [...sides.flatMap(({ packing }) => packing?.pack ?? []), ...ofChunks];
}

/** KL(π ‖ π_ref) of each row in nats, from the (R, 8) state that `headDivergence` leaves. */
export function divergenceOfRows(state: Float32Array): Float64Array {
  return Float64Array.from({ length: state.length / 8 }, (_, row) => {
    const [, s, weighted, , , sReference] = state.subarray(8 * row, 8 * row + 6);
    return weighted! / s! - Math.log(s!) + Math.log(sReference!);
  });
}

export interface HeadBackward {
  readonly count: RowCount;
  readonly w: Weight;
  readonly targets: BufferRange;
  readonly state: BufferRange;
  readonly sums: Matrix;
  /** (R, 2) f32: d loss / d log-probability of each target; 0 where there is none. */
  readonly coefficients: BufferRange;
  /** (R, C): the gradient of the hidden rows. */
  readonly dHidden: Matrix;
}

/** d loss / d hidden from what `headForward` kept: `kernels/head/backward.wgsl`, one dispatch for each part of W. */
export function headBackward(gpu: Gpu, op: HeadBackward): Command[] {
  const { count, w, targets, state, sums, coefficients, dHidden } = op;
  const GROUPS = padded(w.cols) / 8;
  return w.parts.map((part) => {
    const constants = { GROUPS, FIRST_ROW: part.firstRow, ROWS: part.rows, W_IS_F32: w.format === "f32" };
    return dispatch(
      gpu,
      { kernel: "head/backward", library: [widenLibrary(w.format)], constants },
      [read(targets), read(coefficients), read(state), read(sums.range), read(part.range), readWrite(dHidden.range)],
      () => [Math.ceil(GROUPS / 64), count.value, 1],
      rowWork(count, part.firstRow === 0 ? sums : dHidden, dHidden),
    );
  });
}

/** The vocabulary in chunks of at most `chunkRows` tokens, none of which crosses a part of the weight. */
function* chunks(w: Weight, chunkRows: number): Generator<{ firstToken: number; chunk: Weight }> {
  // A chunk begins where a binding may begin: at a multiple of 256 bytes.
  const step = Math.floor(chunkRows / 64) * 64;
  if (step === 0) throw new Error(`internal: a head chunk of ${chunkRows} tokens is below 64`);
  for (const part of w.parts) {
    for (let row = 0; row < part.rows; row += step) {
      const chunk = weightSlice(w, part, row, Math.min(step, part.rows - row));
      yield { firstToken: part.firstRow + row, chunk };
    }
  }
}

/** `Chunk` of kernels/library/chunk.wgsl. */
function chunkUniform(gpu: Gpu, firstToken: number, chunk: Weight): GpuBuffer {
  return gpu.uniform("head chunk", new Uint32Array([firstToken, chunk.rows, firstToken === 0 ? 1 : 0, 0]));
}
