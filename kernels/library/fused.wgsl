// fused: x · y + z rounded once. WGSL's fma may round the product too, and on drivers for the CPU does.
// The product's rounding error comes from halves of 12 bits, whose products are exact (Dekker 1971), the sum's from
// Knuth's TwoSum; both are added to the sum at the end. Exact but for errors that lie below f32's range.
// `zero` is a 0 that the compiler cannot know, from a uniform: it keeps a driver from simplifying (a + b) − a to b.

fn fused(x: vec4f, y: vec4f, z: vec4f, zero: u32) -> vec4f {
  let x_upper = upper_half(x);
  let y_upper = upper_half(y);
  let x_lower = x - x_upper;
  let y_lower = y - y_upper;
  let product = opaque(x * y, zero);
  let product_error = ((x_upper * y_upper - product) + x_upper * y_lower + x_lower * y_upper) + x_lower * y_lower;
  let sum = opaque(product + z, zero);
  let z_part = opaque(sum - product, zero);
  let sum_error = (product - (sum - z_part)) + (z - z_part);
  return sum + (product_error + sum_error);
}

fn upper_half(x: vec4f) -> vec4f {
  return bitcast<vec4f>(bitcast<vec4u>(x) & vec4u(0xfffff000u));
}

fn opaque(x: vec4f, zero: u32) -> vec4f {
  return bitcast<vec4f>(bitcast<vec4u>(x) ^ vec4u(zero));
}
