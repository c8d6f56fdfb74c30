// pack_f16: eight f32 as f16 in a vec4u, the first in the lowest half. Rounded as f16() rounds on this driver.

fn pack_f16(low: vec4f, high: vec4f) -> vec4u {
  return vec4u(bitcast<vec2u>(vec4h(low)), bitcast<vec2u>(vec4h(high)));
}
