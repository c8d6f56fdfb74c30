// sigmoid: 1 / (1 + e^−x). The argument of exp is held below 88, where e^x would leave f32 and WGSL promises nothing;
// sigmoid(−80) = 1.8e-35 is as good as zero. A NaN is the caller's to keep: it multiplies by x.

fn sigmoid(x: vec4f) -> vec4f {
  return 1.0 / (1.0 + exp(min(-x, vec4f(80.0))));
}
