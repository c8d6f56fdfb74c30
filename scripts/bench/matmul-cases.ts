import { matmulNN, matmulNT, matmulTN } from "../../src/ops/matmul.ts";
import type { MatmulShape } from "./baseline.ts";
import { type BenchCase, matrix, rows, weight } from "./cases.ts";
import { headRowsOf, type LayerShape, tokensOf } from "./shapes.ts";

/** The products of a layer and of the head: forward, backward, LoRA's, and that of a generated token. */
export function matmulCases(of: LayerShape, which: "all" | "layer"): BenchCase[] {
  const { hidden, intermediate, vocab, rank } = of;
  const [t, r] = [tokensOf(of), headRowsOf(of)];
  const square = [forward(t, hidden, hidden), backward(t, hidden, hidden)];
  const lora = [
    forwardWithLora(t, hidden, hidden, rank),
    loraInner(t, hidden, rank),
    factorGradient(t, hidden, rank),
    factorGradient(t, rank, hidden),
    decode(hidden, hidden),
  ];
  if (which === "layer") return [...square, ...lora];
  return [
    ...square,
    forward(t, hidden, intermediate),
    forward(t, intermediate, hidden),
    backward(t, intermediate, hidden),
    backward(t, hidden, intermediate),
    ...lora,
    forward(r, hidden, vocab, "head "),
    backward(r, vocab, hidden, "head "),
  ];
}

function product({ m, n, k }: MatmulShape, note = ""): Pick<BenchCase, "shape" | "work" | "plain"> {
  return { shape: `${note}${m}×${k} · ${k}×${n}`, work: { flops: 2 * m * n * k }, plain: { m, n, k } };
}

function forward(m: number, k: number, n: number, note = ""): BenchCase {
  return {
    kernel: "matmul/nt",
    ...product({ m, n, k }, note),
    commands: (gpu) =>
      matmulNT(gpu, { count: rows(gpu, m), x: matrix(gpu, m, k), w: weight(gpu, n, k), y: matrix(gpu, m, n) }),
  };
}

/** As most linear layers run: with LoRA's second product and the residual connection. */
function forwardWithLora(m: number, k: number, n: number, rank: number): BenchCase {
  return {
    kernel: "matmul/nt",
    shape: `${m}×${k} · ${k}×${n} + ${m}×${rank} · ${rank}×${n} + residual`,
    work: { flops: 2 * m * n * (k + rank) },
    commands: (gpu) =>
      matmulNT(gpu, {
        count: rows(gpu, m),
        x: matrix(gpu, m, k),
        w: weight(gpu, n, k),
        y: matrix(gpu, m, n),
        lora: { u: matrix(gpu, m, rank), b: matrix(gpu, n, rank) },
        residual: matrix(gpu, m, n),
      }),
  };
}

/** LoRA's first product, whose weight is f32. */
function loraInner(m: number, k: number, rank: number): BenchCase {
  return {
    kernel: "matmul/nt",
    ...product({ m, n: rank, k }, "LoRA "),
    commands: (gpu) =>
      matmulNT(gpu, { count: rows(gpu, m), x: matrix(gpu, m, k), w: matrix(gpu, rank, k), y: matrix(gpu, m, rank) }),
  };
}

function backward(m: number, k: number, n: number, note = ""): BenchCase {
  return {
    kernel: "matmul/nn",
    ...product({ m, n, k }, note),
    commands: (gpu) =>
      matmulNN(gpu, {
        count: rows(gpu, m),
        x: matrix(gpu, m, k),
        w: weight(gpu, k, n),
        y: matrix(gpu, m, n),
        prior: "drop",
      }),
  };
}

/** The gradient of a factor of LoRA: a sum over the tokens. */
function factorGradient(t: number, i: number, j: number): BenchCase {
  return {
    kernel: "matmul/tn",
    ...product({ m: i, n: j, k: t }, "LoRA "),
    commands: (gpu) =>
      matmulTN(gpu, { count: rows(gpu, t), p: matrix(gpu, t, i), q: matrix(gpu, t, j), y: matrix(gpu, i, j) }),
  };
}

/** The linear layer of one generated token: bound by reading the weight. */
function decode(k: number, n: number): BenchCase {
  return {
    kernel: "matmul/vector",
    shape: `1×${k} · ${k}×${n}`,
    work: { bytes: 2 * k * n },
    commands: (gpu) =>
      matmulNT(gpu, { count: rows(gpu, 1), x: matrix(gpu, 1, k), w: weight(gpu, n, k), y: matrix(gpu, 1, n) }),
  };
}
