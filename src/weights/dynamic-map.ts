/**
 * The dynamic maps of 8-bit optimizers (Dettmers et al. 2022, section 2.1; bitsandbytes' `create_dynamic_map`): 256 values
 * in [−1, 1] or [0, 1] whose spacing shrinks with their magnitude. In f32 as PyTorch computes them, ascending.
 */
export function dynamicMap(signed: boolean): Float32Array<ArrayBuffer> {
  const EXPONENTS = 7;
  const values: number[] = [0, 1];
  for (let i = 0; i < EXPONENTS; i++) {
    const intervals = 2 ** (signed ? i : i + 1);
    const scale = Math.fround(10 ** (i - (EXPONENTS - 1)));
    for (let j = 0; j < intervals; j++) {
      const mean = Math.fround(Math.fround(boundary(j, intervals) + boundary(j + 1, intervals)) / 2);
      const value = Math.fround(scale * mean);
      values.push(value);
      if (signed) values.push(-value);
    }
  }
  return Float32Array.from(values).sort();
}

/** Boundary j of the interval [0.1, 1] in equal parts, as torch.linspace has it: fused multiply-add from the nearer end. */
function boundary(j: number, intervals: number): number {
  const start = Math.fround(0.1);
  const step = Math.fround(Math.fround(1 - start) / intervals);
  const isFirstHalf = j < Math.floor((intervals + 1) / 2);
  return Math.fround(isFirstHalf ? start + step * j : 1 - step * (intervals - j));
}

/** Both maps one after the other, as the kernel wants them: the signed one for m, the unsigned one for v. */
export function dynamicMaps(): Float32Array<ArrayBuffer> {
  const maps = new Float32Array(512);
  maps.set(dynamicMap(true), 0);
  maps.set(dynamicMap(false), 256);
  return maps;
}
