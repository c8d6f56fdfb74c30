import type { GpuBuffer } from "../gpu/buffer.ts";
import { type BufferRange, read, readWrite, uniform } from "../gpu/buffer.ts";
import { type Command, dispatch } from "../gpu/commands.ts";
import type { Gpu } from "../gpu/gpu.ts";
import type { Matrix } from "./matrix.ts";

/** Workgroups that share one gradient's sum of squares: enough to fill a GPU, few enough to add up at once. */
const SQUARE_SUM_WORKGROUPS = 64;

/** `partials` must hold this many f32 for each gradient. */
export const PARTIALS_PER_GRADIENT = SQUARE_SUM_WORKGROUPS;

/** partials[64 i …] = shares of the sum of squares of gradient i: `kernels/optimizer/square_sum.wgsl`. */
export function squareSums(gpu: Gpu, gradients: readonly Matrix[], partials: BufferRange): Command[] {
  return gradients.map((gradient, i) => {
    const constants = {
      VECS: gradient.range.sizeBytes / 16,
      WORKGROUPS: SQUARE_SUM_WORKGROUPS,
      FIRST: i * PARTIALS_PER_GRADIENT,
    };
    return dispatch(
      gpu,
      { kernel: "optimizer/square_sum", library: ["workgroup_sum"], constants },
      [read(gradient.range), readWrite(partials)],
      () => [SQUARE_SUM_WORKGROUPS, 1, 1],
    );
  });
}

/** clip = (norm, scale, finite, 0) from the partial sums: `kernels/optimizer/clip.wgsl`. */
export function clipScale(gpu: Gpu, op: { step: GpuBuffer; partials: BufferRange; clip: BufferRange }): Command[] {
  return [
    dispatch(
      gpu,
      {
        kernel: "optimizer/clip",
        library: ["step", "workgroup_sum"],
        constants: { PARTIALS: op.partials.sizeBytes / 4 },
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
