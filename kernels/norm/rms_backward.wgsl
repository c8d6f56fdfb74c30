// norm/rms_backward: dx (+)= rstd · (w·dy − x · rstd² · mean(w·dy·x)),  the gradient of norm/rms_forward; w is frozen
// x, dy, dx: (T, C) f32, rows padded with zeros to ROW_VECS vec4.  w: (C) f32, padded likewise.  rstd: (T) f32.
// Every element of dx is written, or added to where ADD; its padding stays zero because x's and w's is.
// One workgroup per row. Dispatch: (T). Reference: test/reference/norm.ts

override ROW_VECS: u32;
override WIDTH: f32; // C, without padding
override ADD: bool;

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> w: array<vec4f>;
@group(0) @binding(2) var<storage, read> rstd: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> dx: array<vec4f>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x * ROW_VECS;
  var products = 0.0;
  for (var i = lane; i < ROW_VECS; i += LANES) {
    products += dot(w[i] * dy[row + i], x[row + i]);
  }
  let scale = rstd[group.x];
  let along_x = scale * scale * workgroup_sum(products, lane) / WIDTH;
  for (var i = lane; i < ROW_VECS; i += LANES) {
    let gradient = scale * (w[i] * dy[row + i] - x[row + i] * along_x);
    if (ADD) {
      dx[row + i] += gradient;
    } else {
      dx[row + i] = gradient;
    }
  }
}
