import { type BufferRange, type GpuBuffer, read, readWrite, uniform } from "../gpu/buffer.ts";
import { type Command, dispatch } from "../gpu/commands.ts";
import type { RowCount } from "../gpu/count.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { matmulNN, matmulNT } from "./matmul.ts";
import { type Matrix, padded, type Weight, weightSlice, widenLibrary } from "./matrix.ts";
import type { HalfRows } from "./tensor.ts";

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
  /** Workspace of products on subgroup matrices, for a weight in f16. */
  readonly half?: HalfRows | null;
}

/**
 * The head in one pass over the vocabulary, chunk by chunk: logits, their softmax statistics, and the unscaled gradient of
 * the hidden rows, as attention with W for both keys and values. The whole logits never exist.
 */
export function headForward(gpu: Gpu, op: HeadForward): Command[] {
  const { count, hidden, w, targets, logits, state, best, targetLogits, scale, sums, half } = op;
  const commands: Command[] = [];
  for (const { firstToken, chunk } of chunks(w, logits.cols)) {
    const isFirst = firstToken === 0;
    // A last, narrower chunk has rows of its own width in the same workspace.
    const chunkLogits = { ...logits, cols: chunk.rows };
    commands.push(...matmulNT(gpu, { count, x: hidden, w: chunk, y: chunkLogits, half }));
    commands.push(
      dispatch(
        gpu,
        {
          kernel: "head/chunk",
          library: ["chunk", "workgroup_sum"],
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
        ],
        () => [count.value, 1, 1],
      ),
    );
    if (sums) {
      const prior = isFirst ? "drop" : { rowScale: scale };
      commands.push(...matmulNN(gpu, { count, x: chunkLogits, w: chunk, y: sums, prior, half }));
    }
  }
  return commands;
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
  /** As in {@link HeadForward}. */
  readonly half?: HalfRows | null;
  /** (R, 8) f32: the two vec4 of each row that `kernels/head/divergence.wgsl` explains. */
  readonly state: BufferRange;
}

/** What KL(π ‖ π_ref) of every row is made of, chunk by chunk: `kernels/head/divergence.wgsl`. */
export function headDivergence(gpu: Gpu, op: HeadDivergence): Command[] {
  const { count, hidden, hiddenReference, w, logits, logitsReference, state, half } = op;
  return [...chunks(w, logits.cols)].flatMap(({ firstToken, chunk }) => [
    ...matmulNT(gpu, { count, x: hidden, w: chunk, y: { ...logits, cols: chunk.rows }, half }),
    ...matmulNT(gpu, { count, x: hiddenReference, w: chunk, y: { ...logitsReference, cols: chunk.rows }, half }),
    dispatch(
      gpu,
      {
        kernel: "head/divergence",
        library: ["chunk", "workgroup_sum"],
        constants: { CHUNK_STRIDE: padded(chunk.rows), LANES: gpu.reductionLanes },
      },
      [
        uniform(chunkUniform(gpu, firstToken, chunk)),
        read(logits.range),
        read(logitsReference.range),
        readWrite(state),
      ],
      () => [count.value, 1, 1],
    ),
  ]);
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
