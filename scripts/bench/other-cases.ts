import { wholeBuffer } from "../../src/gpu/buffer.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { headBackward, headDivergence, headForward } from "../../src/ops/head.ts";
import { padded } from "../../src/ops/matrix.ts";
import { createMergeModule, MERGE_SUMS, mergeRows, mergeWorkgroups } from "../../src/ops/merge.ts";
import {
  adamW,
  adamW8,
  clipScale,
  createMoments8,
  createMoments32,
  partialCount,
  squareSums,
} from "../../src/ops/optimizer.ts";
import { dynamicMaps } from "../../src/weights/dynamic-map.ts";
import { type BenchCase, matrix, numbers, only, rows, weight, words } from "./cases.ts";
import { headRowsOf, type LayerShape } from "./shapes.ts";

/** What the head does beside its products, on one chunk that holds the whole vocabulary. */
export function headCases(of: LayerShape): BenchCase[] {
  const { hidden, vocab, batch } = of;
  const r = headRowsOf(of);
  const chunk = padded(vocab);
  const common = (gpu: Gpu) => ({
    count: rows(gpu, r),
    w: weight(gpu, vocab, hidden),
    targets: words(gpu, batch.targets),
    state: words(gpu, new Float32Array(8 * r).fill(1)),
    sums: matrix(gpu, r, hidden),
  });
  return [
    {
      kernel: "head/chunk",
      shape: `${r}×${vocab}`,
      work: { bytes: 8 * r * vocab },
      commands: (gpu) => {
        const [best, targetLogits, scale] = [r, 2 * r, r].map((length) => words(gpu, length));
        const op = { ...common(gpu), hidden: matrix(gpu, r, hidden), logits: matrix(gpu, r, chunk) };
        return only(headForward(gpu, { ...op, best: best!, targetLogits: targetLogits!, scale: scale! }), "head/chunk");
      },
    },
    {
      kernel: "head/backward",
      shape: `${r}×${hidden}`,
      work: { bytes: (8 + 2) * r * hidden },
      commands: (gpu) =>
        headBackward(gpu, {
          ...common(gpu),
          coefficients: words(gpu, numbers(2 * r)),
          dHidden: matrix(gpu, r, hidden),
        }),
    },
    {
      kernel: "head/divergence",
      shape: `${r}×${vocab}`,
      work: { bytes: 8 * r * vocab },
      commands: (gpu) => {
        const [hiddenRows, hiddenReference] = [matrix(gpu, r, hidden), matrix(gpu, r, hidden)];
        const [logits, logitsReference] = [matrix(gpu, r, chunk), matrix(gpu, r, chunk)];
        const op = { ...common(gpu), hidden: hiddenRows, hiddenReference, logits, logitsReference };
        return only(headDivergence(gpu, op), "head/divergence");
      },
    },
  ];
}

/** An optimizer step of one LoRA factor, (rowCount, rank). */
export function optimizerCases(rowCount: number, rank: number): BenchCase[] {
  const elements = rowCount * rank;
  const shape = `${rowCount}×${rank}`;
  const update = (gpu: Gpu) => {
    // Betas, eps, √(1 − β2), lr, decay, no clipping; clip = (norm, scale 1, finite 1, 0).
    const step = Float32Array.of(0.9, 0.1, 0.999, 0.001, 1e-8, 0.0316, 1e-6, 1, 0, 0, 0, 0);
    return {
      step: gpu.uniform("bench step", new Uint32Array(step.buffer)),
      clip: words(gpu, Float32Array.of(1, 1, 1, 0)),
      gradient: matrix(gpu, rowCount, rank),
      parameter: matrix(gpu, rowCount, rank),
    };
  };
  const sums = (gpu: Gpu) => {
    const { step, clip, gradient } = update(gpu);
    const partials = partialCount([gradient]);
    return { step, clip, gradients: [gradient], partialCount: partials, partials: words(gpu, partials) };
  };
  return [
    {
      kernel: "optimizer/square_sum",
      shape,
      work: { bytes: 4 * elements },
      commands: (gpu) => {
        const { gradients, partials } = sums(gpu);
        return squareSums(gpu, gradients, partials);
      },
    },
    {
      kernel: "optimizer/clip",
      shape: "one factor's partial sums",
      work: null,
      commands: (gpu) => clipScale(gpu, sums(gpu)),
    },
    {
      kernel: "optimizer/adamw",
      shape,
      work: { bytes: (4 + 3 * 8) * elements },
      commands: (gpu) => {
        const op = update(gpu);
        return adamW(gpu, { ...op, moments: createMoments32(gpu, "bench", op.parameter), decayLast: false });
      },
    },
    {
      kernel: "optimizer/adamw_8bit",
      shape,
      work: { bytes: (4 + 8 + 2 * 2) * elements },
      commands: (gpu) => {
        const op = update(gpu);
        return adamW8(gpu, {
          ...op,
          moments: createMoments8(gpu, "bench", op.parameter),
          code: words(gpu, dynamicMaps()),
        });
      },
    },
  ];
}

/** Folding an adapter of this rank into a weight of bf16, with the account of what the rounding kept. */
export function mergeCase(rowCount: number, cols: number, rank: number): BenchCase {
  return {
    kernel: "export/merge",
    shape: `${rowCount}×${cols}, rank ${rank}`,
    work: { flops: 2 * rowCount * cols * rank },
    commands: (gpu) => {
      const bf16 = () => wholeBuffer(gpu.buffer("bench weight", padded(rowCount) * padded(cols) * 2));
      return mergeRows(gpu, {
        count: rows(gpu, rowCount),
        w: bf16(),
        wDtype: "BF16",
        a: matrix(gpu, rank, cols),
        b: matrix(gpu, rowCount, rank),
        v: bf16(),
        vDtype: "BF16",
        sums: words(gpu, MERGE_SUMS * mergeWorkgroups(gpu, rowCount, cols)),
        module: createMergeModule(gpu, { cols, rank, scale: 1, unit: 1 }),
      });
    },
  };
}
