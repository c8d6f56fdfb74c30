// attention/delta: stats[t, h].y = Σ_d do · o, which both backward kernels need (Dao et al. 2022, algorithm 4, line 19)
// o, d_o: (T, QUERY_HEADS · D) f32, rows of QUERY_STRIDE Vec. Every .y is written.
// One invocation per query and head. Dispatch: (ceil(T / 64), QUERY_HEADS). Reference: test/reference/attention.ts

override QUERY_STRIDE: u32;
override QUERY_HEADS: u32;

@group(0) @binding(0) var<uniform> count: vec4u; // x: T
@group(0) @binding(1) var<storage, read> o: array<Vec>;
@group(0) @binding(2) var<storage, read> d_o: array<Vec>;
@group(0) @binding(3) var<storage, read_write> stats: array<vec2f>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= count.x) {
    return;
  }
  let at = id.x * QUERY_STRIDE + id.y * HEAD_VECS;
  var sum = 0.0;
  for (var d = 0u; d < HEAD_VECS; d++) {
    sum += dot(o[at + d], d_o[at + d]);
  }
  stats[id.x * QUERY_HEADS + id.y].y = sum;
}
