// peak_scale: the power of two that brings a matrix's largest element into [2^exponent, 2^(exponent + 1)), from the bits that
// elementwise/peak leaves; 1 where that is zero, subnormal, NaN or an infinity. Its inverse is exact in f32 too.

fn peak_scale(bits: u32, exponent: i32) -> f32 {
  let biased = i32(bits >> 23u);
  if (biased == 0 || biased == 255) {
    return 1.0;
  }
  return bitcast<f32>(u32(clamp(254 + exponent - biased, 1, 253)) << 23u);
}
