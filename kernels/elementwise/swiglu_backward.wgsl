// elementwise/swiglu_backward: the gradient of y = silu(g) · u:
//   dg = dy · u · σ(g) · (1 + g · (1 − σ(g)))      du = dy · silu(g)
// g, u, dy, dg, du: (T, I) f32, rows padded with zeros to ROW_VECS vec4. Every element of dg and du is written.
// One invocation per vec4. Dispatch: (ceil(ROW_VECS / 64), T). Reference: test/reference/swiglu.ts

override ROW_VECS: u32;

@group(0) @binding(0) var<storage, read> gate: array<vec4f>;
@group(0) @binding(1) var<storage, read> up: array<vec4f>;
@group(0) @binding(2) var<storage, read> dy: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> d_gate: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> d_up: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= ROW_VECS) {
    return;
  }
  let at = id.y * ROW_VECS + id.x;
  let g = gate[at];
  let s = sigmoid(g);
  d_gate[at] = dy[at] * up[at] * s * (1.0 + g * (1.0 - s));
  d_up[at] = dy[at] * g * s;
}
