/** The logistic function and its logarithm, accurate to a few units in the last place for every float64 argument. */

/** σ(x) = 1/(1 + e⁻ˣ). For 1 − σ(x) use `sigmoid(-x)`, which does not cancel. */
export function sigmoid(x: number): number {
  if (x >= 0) return 1 / (1 + Math.exp(-x));
  const exponential = Math.exp(x);
  return exponential / (1 + exponential);
}

/** ℓ(x) = ln σ(x) = −ln(1 + e⁻ˣ), also −softplus(−x). */
export function logSigmoid(x: number): number {
  return x >= 0 ? -Math.log1p(Math.exp(-x)) : x - Math.log1p(Math.exp(x));
}

/** σ′(x) = σ(x)·σ(−x), accurate in both tails. */
export function sigmoidSlope(x: number): number {
  return sigmoid(x) * sigmoid(-x);
}

/** weight · value where a weight of 0 wins over an infinite value: a saturated loss sends no gradient, not NaN. */
export function weigh(weight: number, value: number): number {
  return weight === 0 ? 0 : weight * value;
}
