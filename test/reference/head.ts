import type { Numbers } from "../numbers.ts";
import { matmulNT } from "./matmul.ts";

/** A token whose log-probability is wanted, and the hidden row that predicts it. */
export interface Target {
  readonly row: number;
  readonly token: number;
}

export interface Head {
  /** (R, V). */
  readonly logits: Float64Array;
  /** (R, V): log-softmax. */
  readonly logps: Float64Array;
}

/** logits = h·Wᵀ and their log-softmax. h (R, C), W (V, C). */
export function headForward(hidden: Numbers, w: Numbers, cols: number): Head {
  const rows = hidden.length / cols;
  const vocab = w.length / cols;
  const logits = matmulNT(hidden, w, { m: rows, n: vocab, k: cols });
  const logps = new Float64Array(logits.length);
  for (let row = 0; row < rows; row++) {
    const own = logits.subarray(row * vocab, (row + 1) * vocab);
    const largest = own.reduce((m, logit) => Math.max(m, logit), Number.NEGATIVE_INFINITY);
    const sum = own.reduce((total, logit) => total + Math.exp(logit - largest), 0);
    for (let token = 0; token < vocab; token++) {
      logps[row * vocab + token] = own[token]! - largest - Math.log(sum);
    }
  }
  return { logits, logps };
}

/** d/dh of Σ_i coefficients[i] · log p(targets[i]), from ∇log p(token) = W[token] − Σ_v p_v W_v. Returns (R, C). */
export function headBackward(
  logps: Numbers,
  w: Numbers,
  cols: number,
  targets: readonly Target[],
  coefficients: Numbers,
): Float64Array {
  const vocab = w.length / cols;
  const dHidden = new Float64Array((logps.length / vocab) * cols);
  for (const [i, { row, token }] of targets.entries()) {
    const coefficient = coefficients[i]!;
    for (let v = 0; v < vocab; v++) {
      const dLogit = coefficient * ((v === token ? 1 : 0) - Math.exp(logps[row * vocab + v]!));
      for (let c = 0; c < cols; c++) dHidden[row * cols + c]! += dLogit * w[v * cols + c]!;
    }
  }
  return dHidden;
}

/** KL(π ‖ π_ref) of each row over the whole vocabulary, in nats, from (R, V) log-probabilities. */
export function divergence(logps: Numbers, referenceLogps: Numbers, vocab: number): Float64Array {
  const rows = new Float64Array(logps.length / vocab);
  for (let i = 0; i < logps.length; i++) {
    rows[Math.floor(i / vocab)]! += Math.exp(logps[i]!) * (logps[i]! - referenceLogps[i]!);
  }
  return rows;
}
