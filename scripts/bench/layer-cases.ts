import type { Gpu } from "../../src/gpu/gpu.ts";
import { attentionBackward, attentionForward } from "../../src/ops/attention.ts";
import { embedding, gatherRows, rope, scatterRows, swigluBackward, swigluForward } from "../../src/ops/elementwise.ts";
import { rmsNormBackward, rmsNormForward } from "../../src/ops/norm.ts";
import { type BenchCase, matrix, numbers, only, rows, weight, words } from "./cases.ts";
import { headRowsOf, type LayerShape, scoresOf, tokensOf } from "./shapes.ts";

/** Norms, elementwise kernels and moves of rows. */
export function elementwiseCases(of: LayerShape): BenchCase[] {
  const { hidden, intermediate, heads, headDim, vocab, batch } = of;
  const [t, r] = [tokensOf(of), headRowsOf(of)];
  const queries = heads * headDim;
  const norm = (gpu: Gpu) => ({
    count: rows(gpu, t),
    x: matrix(gpu, t, hidden),
    w: words(gpu, numbers(hidden)),
    rstd: words(gpu, numbers(t)),
  });
  const gated = (gpu: Gpu) => ({
    count: rows(gpu, t),
    gate: matrix(gpu, t, intermediate),
    up: matrix(gpu, t, intermediate),
  });
  return [
    {
      kernel: "norm/rms_forward",
      shape: `${t}×${hidden}`,
      work: { bytes: 8 * t * hidden },
      commands: (gpu) => rmsNormForward(gpu, { ...norm(gpu), eps: 1e-5, y: matrix(gpu, t, hidden) }),
    },
    {
      kernel: "norm/rms_backward",
      shape: `${t}×${hidden}`,
      work: { bytes: 16 * t * hidden },
      commands: (gpu) =>
        rmsNormBackward(gpu, { ...norm(gpu), dy: matrix(gpu, t, hidden), dx: matrix(gpu, t, hidden), add: true }),
    },
    {
      kernel: "elementwise/embedding",
      shape: `${t}×${hidden} of ${vocab}`,
      work: { bytes: (2 + 4) * t * hidden },
      commands: (gpu) =>
        embedding(gpu, {
          count: rows(gpu, t),
          tokens: words(gpu, batch.tokens),
          w: weight(gpu, vocab, hidden),
          x: matrix(gpu, t, hidden),
        }),
    },
    {
      kernel: "elementwise/rope",
      shape: `${t}×${queries}`,
      work: { bytes: 8 * t * queries },
      commands: (gpu) =>
        rope(gpu, {
          count: rows(gpu, t),
          positions: words(gpu, batch.positions),
          table: words(gpu, turns(batch.positions.length, headDim)),
          x: matrix(gpu, t, queries),
          headDim,
          inverse: false,
        }),
    },
    {
      kernel: "elementwise/swiglu_forward",
      shape: `${t}×${intermediate}`,
      work: { bytes: 12 * t * intermediate },
      commands: (gpu) => swigluForward(gpu, { ...gated(gpu), y: matrix(gpu, t, intermediate) }),
    },
    {
      kernel: "elementwise/swiglu_backward",
      shape: `${t}×${intermediate}`,
      work: { bytes: 20 * t * intermediate },
      commands: (gpu) => {
        const [dy, dGate, dUp] = [0, 1, 2].map(() => matrix(gpu, t, intermediate));
        return swigluBackward(gpu, { ...gated(gpu), dy: dy!, dGate: dGate!, dUp: dUp! });
      },
    },
    ...(["elementwise/gather_rows", "elementwise/scatter_rows"] as const).map((kernel): BenchCase => {
      const isGather = kernel === "elementwise/gather_rows";
      return {
        kernel,
        shape: `${r}×${hidden}`,
        work: { bytes: 8 * r * hidden },
        commands: (gpu) => {
          const [all, some] = [matrix(gpu, t, hidden), matrix(gpu, r, hidden)];
          const common = { count: rows(gpu, r), rows: words(gpu, batch.headRows) };
          return isGather
            ? gatherRows(gpu, { ...common, x: all, y: some })
            : scatterRows(gpu, { ...common, x: some, y: all });
        },
      };
    }),
  ];
}

/** (cos, sin) of a quarter turn: rope moves numbers about and never makes them larger. */
function turns(positions: number, headDim: number): Float32Array<ArrayBuffer> {
  return new Float32Array(positions * headDim).map((_, i) => i % 2);
}

/** Attention over the packed pairs, and of one token over a cache of as many keys. */
export function attentionCases(of: LayerShape): BenchCase[] {
  const { heads, keyValueHeads, headDim, batch } = of;
  const t = tokensOf(of);
  const scoreFlops = scoresOf(of) * heads * headDim * 2; // of one product over every score
  const shape = `${t} tokens, ${heads}/${keyValueHeads} heads of ${headDim}`;
  const [queries, keys] = [heads * headDim, keyValueHeads * headDim];
  const forward = (gpu: Gpu, queryRows: number, visible: Uint32Array<ArrayBuffer>) => ({
    count: rows(gpu, queryRows),
    shape: of,
    visible: words(gpu, visible),
    q: matrix(gpu, queryRows, queries),
    k: matrix(gpu, t, keys),
    v: matrix(gpu, t, keys),
    o: matrix(gpu, queryRows, queries),
    stats: words(gpu, queryRows * heads * 2),
  });
  const backward = (kernel: string, work: BenchCase["work"]): BenchCase => ({
    kernel,
    shape,
    work,
    commands: (gpu) =>
      only(
        attentionBackward(gpu, {
          ...forward(gpu, t, batch.visible),
          queryEnd: words(gpu, batch.queryEnd),
          dO: matrix(gpu, t, queries),
          dQ: matrix(gpu, t, queries),
          dK: matrix(gpu, t, keys),
          dV: matrix(gpu, t, keys),
        }),
        kernel,
      ),
  });
  return [
    {
      kernel: "attention/forward",
      shape,
      work: { flops: 2 * scoreFlops },
      commands: (gpu) => attentionForward(gpu, forward(gpu, t, batch.visible)),
    },
    backward("attention/delta", { bytes: 8 * t * queries }),
    backward("attention/backward_query", { flops: 3 * scoreFlops }),
    backward("attention/backward_key", { flops: 4 * scoreFlops }),
    {
      kernel: "attention/decode",
      shape: `1 token, ${t} keys, ${heads}/${keyValueHeads} heads of ${headDim}`,
      work: { bytes: 8 * t * keys },
      commands: (gpu) => attentionForward(gpu, forward(gpu, 1, Uint32Array.of(0, 0, 0, t))),
    },
  ];
}
