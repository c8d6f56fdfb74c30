// widen_low, widen_high: as in widen.wgsl, of eight float16. Exact, but for subnormals on drivers that flush them.

fn widen_low(packed: vec4u) -> vec4f {
  return vec4f(unpack2x16float(packed.x), unpack2x16float(packed.y));
}

fn widen_high(packed: vec4u) -> vec4f {
  return vec4f(unpack2x16float(packed.z), unpack2x16float(packed.w));
}
