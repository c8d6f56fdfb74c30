// elementwise/swiglu_forward: y = silu(g) · u,  silu(g) = g · sigmoid(g)      (Shazeer 2020, equation 6)
// g, u, y: (T, I) f32, rows padded with zeros to ROW_VECS vec4. Every element of y is written; padding stays zero.
// One invocation per vec4. Dispatch: (ceil(ROW_VECS / 64), T). Reference: test/reference/swiglu.ts

override ROW_VECS: u32;

@group(0) @binding(0) var<storage, read> gate: array<vec4f>;
@group(0) @binding(1) var<storage, read> up: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= ROW_VECS) {
    return;
  }
  let at = id.y * ROW_VECS + id.x;
  let g = gate[at];
  y[at] = g * sigmoid(g) * up[at];
}
