import type { Numbers } from "../numbers.ts";

export interface AttentionSizes {
  readonly queries: number;
  readonly keys: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headDim: number;
}

/** Whether query t sees key j: the mask, one question at a time. */
export type Sees = (t: number, j: number) => boolean;

export interface Attention {
  /** o (queries, heads · D). */
  readonly o: Float64Array;
  /** (queries, heads): log Σ exp of a query's scores. */
  readonly logsumexp: Float64Array;
  /** (queries, heads, keys): softmax weights, 0 where the query does not see the key. */
  readonly p: Float64Array;
}

/**
 * o = softmax(q·Kᵀ / √D) V over the keys that a query sees (Vaswani et al. 2017, equation 1). Query head h reads key head
 * h / (heads / keyValueHeads). q (queries, heads · D); k, v (keys, keyValueHeads · D).
 */
export function attentionForward(q: Numbers, k: Numbers, v: Numbers, sizes: AttentionSizes, sees: Sees): Attention {
  const { queries, keys, heads, keyValueHeads, headDim } = sizes;
  const o = new Float64Array(queries * heads * headDim);
  const logsumexp = new Float64Array(queries * heads);
  const p = new Float64Array(queries * heads * keys);
  for (let t = 0; t < queries; t++) {
    for (let head = 0; head < heads; head++) {
      const q_at = (t * heads + head) * headDim;
      const keyAt = (j: number) => (j * keyValueHeads + Math.floor((head * keyValueHeads) / heads)) * headDim;
      const scores = new Float64Array(keys).fill(Number.NEGATIVE_INFINITY);
      for (let j = 0; j < keys; j++) {
        if (!sees(t, j)) continue;
        let score = 0;
        for (let d = 0; d < headDim; d++) score += q[q_at + d]! * k[keyAt(j) + d]!;
        scores[j] = score / Math.sqrt(headDim);
      }
      const largest = Math.max(...scores);
      const sum = scores.reduce((total, score) => total + Math.exp(score - largest), 0);
      logsumexp[t * heads + head] = largest + Math.log(sum);
      for (let j = 0; j < keys; j++) {
        const weight = Math.exp(scores[j]! - largest) / sum;
        p[(t * heads + head) * keys + j] = weight;
        for (let d = 0; d < headDim; d++) o[q_at + d]! += weight * v[keyAt(j) + d]!;
      }
    }
  }
  return { o, logsumexp, p };
}

export interface AttentionGradients {
  readonly dQ: Float64Array;
  readonly dK: Float64Array;
  readonly dV: Float64Array;
  /** δ = Σ_d do · o, which equals Σ_j p_j (do · v_j): (queries, heads). */
  readonly delta: Float64Array;
}

/** dv_j = Σ p_j do;  ds_j = p_j (do · v_j − δ);  dq = Σ ds_j k_j / √D;  dk_j = Σ ds_j q / √D. Shapes as in forward. */
export function attentionBackward(
  q: Numbers,
  k: Numbers,
  v: Numbers,
  p: Numbers,
  dO: Numbers,
  { queries, keys, heads, keyValueHeads, headDim }: AttentionSizes,
): AttentionGradients {
  const dQ = new Float64Array(q.length);
  const dK = new Float64Array(k.length);
  const dV = new Float64Array(v.length);
  const delta = new Float64Array(queries * heads);
  const scale = 1 / Math.sqrt(headDim);
  for (let t = 0; t < queries; t++) {
    for (let head = 0; head < heads; head++) {
      const q_at = (t * heads + head) * headDim;
      const keyAt = (j: number) => (j * keyValueHeads + Math.floor((head * keyValueHeads) / heads)) * headDim;
      const weight = (j: number) => p[(t * heads + head) * keys + j]!;
      const dP = new Float64Array(keys); // do · v_j
      for (let j = 0; j < keys; j++) {
        for (let d = 0; d < headDim; d++) dP[j]! += dO[q_at + d]! * v[keyAt(j) + d]!;
      }
      const expected = dP.reduce((sum, value, j) => sum + weight(j) * value, 0);
      delta[t * heads + head] = expected;
      for (let j = 0; j < keys; j++) {
        const ds = weight(j) * (dP[j]! - expected) * scale;
        for (let d = 0; d < headDim; d++) {
          dQ[q_at + d]! += ds * k[keyAt(j) + d]!;
          dK[keyAt(j) + d]! += ds * q[q_at + d]!;
          dV[keyAt(j) + d]! += weight(j) * dO[q_at + d]!;
        }
      }
    }
  }
  return { dQ, dK, dV, delta };
}
