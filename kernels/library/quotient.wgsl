// quotient: x / y of positive normal numbers, rounded to nearest even, where WGSL's own division may be 2.5 ULP off.
// Long division of the significands in integers, so that it is the same on every driver. A quotient below the normal
// numbers becomes 0.

fn quotient(x: f32, y: f32) -> f32 {
  let x_bits = bitcast<u32>(x);
  let y_bits = bitcast<u32>(y);
  let divisor = (y_bits & 0x7fffffu) | 0x800000u;
  var rest = (x_bits & 0x7fffffu) | 0x800000u;
  var exponent = i32(x_bits >> 23u) - i32(y_bits >> 23u) + 127;
  if (rest < divisor) {
    rest <<= 1u;
    exponent -= 1;
  }
  var digits = 0u; // 24 of the significand and one to round by
  for (var i = 0u; i < 25u; i++) {
    digits <<= 1u;
    if (rest >= divisor) {
      rest -= divisor;
      digits |= 1u;
    }
    rest <<= 1u;
  }
  let significand = digits >> 1u;
  let is_above_half = rest != 0u || (significand & 1u) == 1u;
  let rounded = significand + select(0u, digits & 1u, is_above_half);
  return select(bitcast<f32>((u32(exponent) << 23u) + (rounded - 0x800000u)), 0.0, exponent < 1);
}
