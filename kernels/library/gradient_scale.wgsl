// gradient_scale: the power of two that the gradient of attention's result enters f16 with. It brings the largest element to
// 256 at most, and so low that |ds| ≤ 2 · D · |do| · |v| stays below 2^15 whatever the signs. peaks: see peak_scale.

fn gradient_scale() -> f32 {
  let value_exponent = i32(peaks[64] >> 23u) - 127;
  let dim_exponent = i32(32u - countLeadingZeros(8u * DIM_GROUPS - 1u));
  return peak_scale(peaks[0], min(8, 12 - dim_exponent - value_exponent));
}
