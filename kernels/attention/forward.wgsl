// attention/forward: o = softmax(q·Kᵀ · scale)·V over the keys that a query may see, with online softmax
// (Dao et al. 2022, algorithm 1): never more than four scores of a row exist at once.
// q, o: (T, QUERY_HEADS · D) f32, rows of QUERY_STRIDE Vec.  k, v: (keys, KEY_HEADS · D) f32, rows of KEY_STRIDE Vec.
// Query head h reads key head h / GROUP. Vec is vec4f, or vec2f where D is not a multiple of 4; HEAD_VECS = D / Vec's size.
// visible[t] = (prefix_start, prefix_end, own_start, own_end): query t sees the keys [prefix_start, prefix_end), the prompt
// that both answers share, and [own_start, own_end), its own side up to itself.
// stats[t, h].x = logsumexp of the scaled scores, kept for backward (.y is attention/delta's). Every element of o and every
// .x is written; o's padding, if it has any, is left alone.
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
@group(0) @binding(5) var<storage, read_write> o: array<Vec>;
@group(0) @binding(6) var<storage, read_write> stats: array<vec2f>;

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

  var sum: array<Vec, HEAD_VECS>; // Σ exp(s − m) v
  var m = -3.0e38;                // the largest score so far
  var l = 0.0;                    // Σ exp(s − m)
  for (var j = 0u; j < keys; j += 4u) {
    // The j-th visible key and the three after it. Those past the end repeat the last one, with weight 0.
    let n = min(j + vec4u(0u, 1u, 2u, 3u), vec4u(keys - 1u));
    let key = select(range.z + n - prefix, range.x + n, n < vec4u(prefix));
    let at = key * KEY_STRIDE + k_head;
    var scores = vec4f();
    for (var d = 0u; d < HEAD_VECS; d++) {
      let q_d = q[q_at + d];
      scores += vec4f(dot(q_d, k[at.x + d]), dot(q_d, k[at.y + d]), dot(q_d, k[at.z + d]), dot(q_d, k[at.w + d]));
    }
    scores *= SCALE;
    let m_new = max(m, max(max(scores.x, scores.y), max(scores.z, scores.w)));
    let rescale = exp(m - m_new);
    let p = select(vec4f(), exp(scores - m_new), j + vec4u(0u, 1u, 2u, 3u) < vec4u(keys));
    l = l * rescale + p.x + p.y + p.z + p.w;
    m = m_new;
    for (var d = 0u; d < HEAD_VECS; d++) {
      sum[d] = sum[d] * rescale + p.x * v[at.x + d] + p.y * v[at.y + d] + p.z * v[at.z + d] + p.w * v[at.w + d];
    }
  }
  for (var d = 0u; d < HEAD_VECS; d++) {
    o[q_at + d] = sum[d] / l;
  }
  stats[t * QUERY_HEADS + head].x = m + log(l);
}
