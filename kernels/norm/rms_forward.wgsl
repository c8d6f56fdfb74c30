// norm/rms_forward: y = x · rstd · w,  rstd = 1 / sqrt(mean(x²) + eps)      (Zhang and Sennrich 2019, equation 4)
// x, y: (T, C) f32, rows padded with zeros to ROW_VECS vec4.  w: (C) f32, padded likewise.  rstd: (T) f32, kept for backward.
// Every element of y and rstd is written; y's padding becomes zero because w's is.
// One workgroup per row. Dispatch: (T). Reference: test/reference/norm.ts

override ROW_VECS: u32;
override WIDTH: f32; // C, without padding
override EPS: f32;

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> w: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> rstd: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x * ROW_VECS;
  var squares = 0.0;
  for (var i = lane; i < ROW_VECS; i += LANES) {
    squares += dot(x[row + i], x[row + i]);
  }
  let scale = inverseSqrt(workgroup_sum(squares, lane) / WIDTH + EPS);
  for (var i = lane; i < ROW_VECS; i += LANES) {
    y[row + i] = x[row + i] * scale * w[i];
  }
  if (lane == 0u) {
    rstd[group.x] = scale;
  }
}
