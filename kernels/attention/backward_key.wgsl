// attention/backward_key: dv = Σ_t p_t do_t,  dk = scale · Σ_t ds_t q_t, over the queries that see the key and over the
// query heads that share it (Dao et al. 2022, algorithm 4). p and ds as in attention/backward_query.
// Shapes and Vec as in attention/forward.  query_end[j]: key j is seen by the queries [j, query_end[j]), which is one
// stretch because an answer follows its prompt, and the rejected answer follows the chosen one.
// dk, dv: like k and v; every element is written, padding left alone.
// One invocation per key and key head: sums stay in registers, so no atomics. Dispatch: (ceil(T / 64), KEY_HEADS).
// Reference: test/reference/attention.ts

override QUERY_STRIDE: u32;
override KEY_STRIDE: u32;
override QUERY_HEADS: u32;
override GROUP: u32;
override SCALE: f32;

@group(0) @binding(0) var<uniform> count: vec4u; // x: T
@group(0) @binding(1) var<storage, read> query_end: array<u32>;
@group(0) @binding(2) var<storage, read> q: array<Vec>;
@group(0) @binding(3) var<storage, read> k: array<Vec>;
@group(0) @binding(4) var<storage, read> v: array<Vec>;
@group(0) @binding(5) var<storage, read> stats: array<vec2f>;
@group(0) @binding(6) var<storage, read> d_o: array<Vec>;
@group(0) @binding(7) var<storage, read_write> dk: array<Vec>;
@group(0) @binding(8) var<storage, read_write> dv: array<Vec>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let j = id.x;
  let k_head = id.y;
  if (j >= count.x) {
    return;
  }
  let at = j * KEY_STRIDE + k_head * HEAD_VECS;
  let end = query_end[j];

  var sum_k: array<Vec, HEAD_VECS>; // Σ ds q
  var sum_v: array<Vec, HEAD_VECS>; // Σ p do
  for (var head = k_head * GROUP; head < (k_head + 1u) * GROUP; head++) {
    for (var first = j; first < end; first += 4u) {
      // Query `first` and the three after it. Those past the end repeat the last one, with weight 0.
      let t = min(first + vec4u(0u, 1u, 2u, 3u), vec4u(end - 1u));
      let q_at = t * QUERY_STRIDE + head * HEAD_VECS;
      var scores = vec4f();
      var d_p = vec4f();
      for (var d = 0u; d < HEAD_VECS; d++) {
        let k_d = k[at + d];
        let v_d = v[at + d];
        scores += vec4f(dot(q[q_at.x + d], k_d), dot(q[q_at.y + d], k_d), dot(q[q_at.z + d], k_d), dot(q[q_at.w + d], k_d));
        d_p += vec4f(dot(d_o[q_at.x + d], v_d), dot(d_o[q_at.y + d], v_d), dot(d_o[q_at.z + d], v_d), dot(d_o[q_at.w + d], v_d));
      }
      let s = t * QUERY_HEADS + head;
      let logsumexp = vec4f(stats[s.x].x, stats[s.y].x, stats[s.z].x, stats[s.w].x);
      let delta = vec4f(stats[s.x].y, stats[s.y].y, stats[s.z].y, stats[s.w].y);
      let p = select(vec4f(), exp(scores * SCALE - logsumexp), first + vec4u(0u, 1u, 2u, 3u) < vec4u(end));
      let ds = p * (d_p - delta);
      for (var d = 0u; d < HEAD_VECS; d++) {
        sum_k[d] += ds.x * q[q_at.x + d] + ds.y * q[q_at.y + d] + ds.z * q[q_at.z + d] + ds.w * q[q_at.w + d];
        sum_v[d] += p.x * d_o[q_at.x + d] + p.y * d_o[q_at.y + d] + p.z * d_o[q_at.z + d] + p.w * d_o[q_at.w + d];
      }
    }
  }
  for (var d = 0u; d < HEAD_VECS; d++) {
    dk[at + d] = sum_k[d] * SCALE;
    dv[at + d] = sum_v[d];
  }
}
