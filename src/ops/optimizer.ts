import type { GpuBuffer } from "../gpu/buffer.ts";
import { type BufferRange, read, readWrite, uniform } from "../gpu/buffer.ts";
import { type Command, dispatch } from "../gpu/commands.ts";
import type { Gpu } from "../gpu/gpu.ts";
import type { Matrix } from "./matrix.ts";

/** vec4 that one invocation of `square_sum` adds up, as far as MAX_PARTIALS allows. */
const VECS_PER_INVOCATION = 16;
/** Partial sums of one gradient: enough workgroups to fill a GPU, few enough numbers to add up at once. */
const MAX_PARTIALS = 64;

function partialsOf(gradient: Matrix): number {
  return Math.min(MAX_PARTIALS, Math.ceil(gradient.range.sizeBytes / 16 / (64 * VECS_PER_INVOCATION)));
}

/** f32 elements that `partials` must have for these gradients. */
export function partialCount(gradients: readonly Matrix[]): number {
  return gradients.reduce((sum, gradient) => sum + partialsOf(gradient), 0);
}

/** partials = shares of the sum of squares of each gradient, one gradient after another: `kernels/optimizer/square_sum.wgsl`. */
export function squareSums(gpu: Gpu, gradients: readonly Matrix[], partials: BufferRange): Command[] {
  let FIRST = 0;
  return gradients.map((gradient) => {
    const WORKGROUPS = partialsOf(gradient);
    const constants = { VECS: gradient.range.sizeBytes / 16, WORKGROUPS, FIRST };
    FIRST += WORKGROUPS;
    return dispatch(
      gpu,
      { kernel: "optimizer/square_sum", library: ["workgroup_sum"], constants },
      [read(gradient.range), readWrite(partials)],
      () => [WORKGROUPS, 1, 1],
    );
  });
}

/** clip = (norm, scale, finite, 0) from the partial sums: `kernels/optimizer/clip.wgsl`. */
export function clipScale(
  gpu: Gpu,
  op: { step: GpuBuffer; partials: BufferRange; partialCount: number; clip: BufferRange },
): Command[] {
  return [
    dispatch(
      gpu,
      {
        kernel: "optimizer/clip",
        library: ["step", "workgroup_sum"],
        constants: { PARTIALS: op.partialCount },
      },
      [uniform(op.step), read(op.partials), readWrite(op.clip)],
      () => [1, 1, 1],
    ),
  ];
}

export interface AdamWUpdate {
  readonly step: GpuBuffer;
  readonly clip: BufferRange;
  readonly gradient: Matrix;
  readonly parameter: Matrix;
  /** m and v, laid out like the parameter. */
  readonly firstMoment: Matrix;
  readonly secondMoment: Matrix;
}

/** One AdamW step of one tensor with f32 state: `kernels/optimizer/adamw.wgsl`. */
export function adamW(gpu: Gpu, op: AdamWUpdate): Command[] {
  const VECS = op.parameter.range.sizeBytes / 16;
  return [
    dispatch(
      gpu,
      { kernel: "optimizer/adamw", library: ["step"], constants: { VECS } },
      [
        uniform(op.step),
        read(op.clip),
        read(op.gradient.range),
        readWrite(op.parameter.range),
        readWrite(op.firstMoment.range),
        readWrite(op.secondMoment.range),
      ],
      () => [Math.ceil(VECS / 64), 1, 1],
    ),
  ];
}
