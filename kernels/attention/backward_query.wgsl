// attention/backward_query: dq = scale · Σ_j ds_j k_j,  ds = p · (do·v − δ),  p = exp(s − logsumexp)
// (Dao et al. 2022, algorithm 4). Shapes, `visible` and Vec as in attention/forward; stats = (logsumexp, δ).
// dq: like q; every element is written, padding left alone.
// One invocation per query and head. Dispatch: (ceil(T / 64), QUERY_HEADS). Reference: test/reference/attention.ts

override QUERY_STRIDE: u32;
override KEY_STRIDE: u32;
override QUERY_HEADS: u32;
override GROUP: u32;
override SCALE: f32;

@group(0) @binding(0) var<uniform> count: vec4u; // x: T
@group(0) @binding(1) var<storage, read> visible: array<vec4u>;
@group(0) @binding(2) var<storage, read> q: array<Vec>;
@group(0) @binding(3) var<storage, read> k: array<Vec>;
@group(0) @binding(4) var<storage, read> v: array<Vec>;
@group(0) @binding(5) var<storage, read> stats: array<vec2f>;
@group(0) @binding(6) var<storage, read> d_o: array<Vec>;
@group(0) @binding(7) var<storage, read_write> dq: array<Vec>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let t = id.x;
  let head = id.y;
  if (t >= count.x) {
    return;
  }
  let range = visible[t];
  let prefix = range.y - range.x;
  let keys = prefix + range.w - range.z;
  let q_at = t * QUERY_STRIDE + head * HEAD_VECS;
  let k_head = head / GROUP * HEAD_VECS;
  let stat = stats[t * QUERY_HEADS + head];

  var sum: array<Vec, HEAD_VECS>; // Σ ds k
  for (var j = 0u; j < keys; j += 4u) {
    // The j-th visible key and the three after it. Those past the end repeat the last one, with weight 0.
    let n = min(j + vec4u(0u, 1u, 2u, 3u), vec4u(keys - 1u));
    let key = select(range.z + n - prefix, range.x + n, n < vec4u(prefix));
    let at = key * KEY_STRIDE + k_head;
    var scores = vec4f();
    var d_p = vec4f();
    for (var d = 0u; d < HEAD_VECS; d++) {
      let q_d = q[q_at + d];
      let d_o_d = d_o[q_at + d];
      scores += vec4f(dot(q_d, k[at.x + d]), dot(q_d, k[at.y + d]), dot(q_d, k[at.z + d]), dot(q_d, k[at.w + d]));
      d_p += vec4f(dot(d_o_d, v[at.x + d]), dot(d_o_d, v[at.y + d]), dot(d_o_d, v[at.z + d]), dot(d_o_d, v[at.w + d]));
    }
    let p = select(vec4f(), exp(scores * SCALE - stat.x), j + vec4u(0u, 1u, 2u, 3u) < vec4u(keys));
    let ds = p * (d_p - stat.y);
    for (var d = 0u; d < HEAD_VECS; d++) {
      sum[d] += ds.x * k[at.x + d] + ds.y * k[at.y + d] + ds.z * k[at.z + d] + ds.w * k[at.w + d];
    }
  }
  for (var d = 0u; d < HEAD_VECS; d++) {
    dq[q_at + d] = sum[d] * SCALE;
  }
}
