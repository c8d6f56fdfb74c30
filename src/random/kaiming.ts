import type { Mt19937 } from "./mt19937.ts";

/**
 * `torch.nn.init.kaiming_uniform_(tensor, a=√5)` on the CPU in float32, bit for bit: U(−b, b), b = 1/√fanIn, one 32-bit
 * draw for each element in row-major order, of which the low 24 bits count.
 *
 * He et al., "Delving Deep into Rectifiers", 2015; `a = √5` is what `nn.Linear` and PEFT's LoRA A start from.
 *
 * @param generator advanced by rows · fanIn draws
 * @returns (rows, fanIn) f32, row-major
 */
export function kaimingUniform(generator: Mt19937, rows: number, fanIn: number): Float32Array<ArrayBuffer> {
  // The bound goes through the same roundings as torch: gain and bound in float64, then float32.
  const negativeSlope = Math.sqrt(5);
  const gain = Math.sqrt(2 / (1 + negativeSlope ** 2));
  const bound = Math.fround(Math.sqrt(3) * (gain / Math.sqrt(fanIn)));
  const range = Math.fround(2 * bound);
  const values = new Float32Array(rows * fanIn);
  // torch scales by one fused multiply-add, on every CPU that has it (AVX2 and later). In float64 both operations are
  // exact here (48 bits at most), so the store rounds once, as the fused instruction does.
  for (let i = 0; i < values.length; i++) {
    const unit = (generator.nextUint32() & 0xffffff) * 2 ** -24;
    values[i] = unit * range - bound;
  }
  return values;
}
