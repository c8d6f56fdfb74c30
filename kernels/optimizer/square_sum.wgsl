// optimizer/square_sum: partials[FIRST + workgroup] = a share of Σ g², for the global gradient norm
// g: VECS vec4 of f32 (a gradient with its zero padding). WORKGROUPS workgroups stride over it; each writes one partial.
// The order of the sum is fixed. Dispatch: (WORKGROUPS). Reference: test/reference/optimizer.ts

override VECS: u32;
override WORKGROUPS: u32;
override FIRST: u32;

@group(0) @binding(0) var<storage, read> g: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  var squares = 0.0;
  for (var i = group.x * LANES + lane; i < VECS; i += LANES * WORKGROUPS) {
    squares += dot(g[i], g[i]);
  }
  let sum = workgroup_sum(squares, lane);
  if (lane == 0u) {
    partials[FIRST + group.x] = sum;
  }
}
