// widen_low, widen_high: elements 0..3 and 4..7 of eight bfloat16 packed two to a u32 (the even one in the low half),
// widened to f32. Exact: bfloat16 is the upper half of an f32.

fn widen_low(packed: vec4u) -> vec4f {
  return bitcast<vec4f>(vec4u(packed.x << 16u, packed.x & 0xffff0000u, packed.y << 16u, packed.y & 0xffff0000u));
}

fn widen_high(packed: vec4u) -> vec4f {
  return bitcast<vec4f>(vec4u(packed.z << 16u, packed.z & 0xffff0000u, packed.w << 16u, packed.w & 0xffff0000u));
}
