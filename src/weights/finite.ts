/** Whether no value is NaN or infinite. Fast, for hundreds of millions of values: what is not finite times 0 is not 0. */
export function areFinite(values: Float32Array): boolean {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! * 0;
  return sum === 0;
}
