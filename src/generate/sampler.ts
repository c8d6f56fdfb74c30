import { NonFiniteError } from "../errors.ts";
import { createMt19937, type Mt19937 } from "../random/mt19937.ts";

/** How the next token is chosen. */
export interface SamplingSettings {
  /** Divides the logits. 0: always the most likely token, of equals the one with the lowest id. */
  readonly temperature: number;
  /** Only the `topK` most likely tokens; 0 for all. */
  readonly topK: number;
  /** Only the most likely tokens that together reach this probability, never none; 1 for all. */
  readonly topP: number;
  /** Only tokens at least this many times as likely as the likeliest; 0, as if it is not given, for all. */
  readonly minP?: number;
  /** The same seed draws the same tokens from the same logits. An integer in [0, 2^53). */
  readonly seed: number;
}

/** Chooses a token by the logits of the vocabulary, (V). @throws NonFiniteError when one of them is not finite */
export type Sampler = (logits: Float32Array) => number;

/**
 * Temperature, then top-k, then top-p over what is left (Holtzman et al. 2020, equation 3), then min-p (Nguyen et al. 2024,
 * "Turning Up the Heat", section 3), in float64 and in the order of transformers. Of equally likely tokens the one with the lower id counts as more likely, so that top-k leaves exactly k.
 */
export function createSampler({ temperature, topK, topP, minP = 0, seed }: SamplingSettings): Sampler {
  const isShare = (value: number) => value >= 0 && value <= 1;
  if (!(temperature >= 0 && isShare(topP) && isShare(minP) && Number.isInteger(topK) && topK >= 0)) {
    throw new RangeError(
      `internal: no sampling with temperature ${temperature}, top_k ${topK}, top_p ${topP} and min_p ${minP}`,
    );
  }
  if (temperature === 0) return mostLikely;
  const generator = createMt19937(seed);
  return (logits) => {
    const largest = logits[mostLikely(logits)]!;
    const weights = new Float64Array(logits.length); // Probabilities, but for a common factor: the largest is 1.
    for (let token = 0; token < weights.length; token++) {
      weights[token] = Math.exp((logits[token]! - largest) / temperature);
    }
    const kept = candidates(weights, topK, topP);
    // The likeliest token is always among the kept, and its weight is 1.
    const likely = minP === 0 ? kept : Array.from(kept).filter((token) => weights[token]! >= minP);
    return draw(weights, likely, uniform(generator));
  };
}

function mostLikely(logits: Float32Array): number {
  let best = 0;
  for (let token = 0; token < logits.length; token++) {
    const logit = logits[token]!;
    if (!Number.isFinite(logit)) {
      throw new NonFiniteError(
        `the logit of token ${token} is ${logit}: the model, or its adapter, computes values that float32 cannot hold`,
      );
    }
    if (logit > logits[best]!) best = token;
  }
  return best;
}

/** The tokens that top-k and top-p leave. */
function candidates(weights: Float64Array, topK: number, topP: number): ArrayLike<number> {
  const byLikelihood = (a: number, b: number) => weights[b]! - weights[a]! || a - b;
  const hasTopK = topK > 0 && topK < weights.length;
  if (!hasTopK && topP === 1) return Uint32Array.from(weights.keys());
  const kept = hasTopK ? largestTokens(weights, topK, byLikelihood) : Array.from(weights.keys());
  if (topP === 1) return kept;

  const target = topP * sum(weights, kept);
  // Were a token kept whose weight is below this, those after it would be too, and could not make up what is left over.
  const floor = (sum(weights, kept) - target) / kept.length;
  const likely = kept.filter((token) => weights[token]! >= floor).sort(byLikelihood);
  let reached = 0;
  const end = likely.findIndex((token) => {
    reached += weights[token]!;
    return reached >= target;
  });
  return end < 0 ? likely : likely.slice(0, end + 1);
}

/** The `count` first tokens in an order, without sorting all of them. */
function largestTokens(weights: Float64Array, count: number, byLikelihood: (a: number, b: number) => number): number[] {
  let kept: number[] = [];
  let floor = -1;
  for (let token = 0; token < weights.length; token++) {
    if (weights[token]! <= floor) continue;
    kept.push(token);
    if (kept.length < 2 * count) continue;
    kept = kept.sort(byLikelihood).slice(0, count);
    floor = weights[kept[count - 1]!]!;
  }
  return kept.sort(byLikelihood).slice(0, count);
}

/** The token at which the running sum of the weights passes `share` of their total. */
function draw(weights: Float64Array, tokens: ArrayLike<number>, share: number): number {
  const target = share * sum(weights, tokens);
  let reached = 0;
  let token = 0;
  for (let i = 0; i < tokens.length; i++) {
    if (weights[tokens[i]!]! > 0) token = tokens[i]!; // Where rounding keeps the sum from passing, the last possible one.
    reached += weights[tokens[i]!]!;
    if (reached > target) break;
  }
  return token;
}

function sum(weights: Float64Array, tokens: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < tokens.length; i++) total += weights[tokens[i]!]!;
  return total;
}

/** Uniform in [0, 1) with 53 bits: genrand_res53 of mt19937ar.c, as Python's and numpy's random numbers. */
function uniform(generator: Mt19937): number {
  const high = generator.nextUint32() >>> 5;
  const low = generator.nextUint32() >>> 6;
  return (high * 2 ** 26 + low) / 2 ** 53;
}
