// attention/decode: attention/forward for a single query, the token that is generated, over the keys of its cache.
// q, o: (QUERY_HEADS · D) f32.  k, v: (keys, KEY_HEADS · D) f32, rows of KEY_STRIDE Vec.  visible, GROUP, Vec, HEAD_VECS and
// stats are attention/forward's. Every element of o and every .x of stats is written; o's padding is left alone.
// One workgroup per head. It takes LANES keys at a time: first each lane computes the score of one key, then each lane
// adds up its own elements of the weighted values, so that a row of v is one coalesced load.
// Dispatch: (QUERY_HEADS). Reference: test/reference/attention.ts
// Front: LANES is the adapter's subgroup size, whose barriers cost next to nothing; OWN_VECS = ceil(HEAD_VECS / LANES).

override KEY_STRIDE: u32;
override GROUP: u32;
override SCALE: f32;

@group(0) @binding(0) var<storage, read> visible: array<vec4u>;
@group(0) @binding(1) var<storage, read> q: array<Vec>;
@group(0) @binding(2) var<storage, read> k: array<Vec>;
@group(0) @binding(3) var<storage, read> v: array<Vec>;
@group(0) @binding(4) var<storage, read_write> o: array<Vec>;
@group(0) @binding(5) var<storage, read_write> stats: array<vec2f>;

const LOWEST = -3.0e38;

var<workgroup> scores: array<f32, LANES>;
var<workgroup> weights: array<f32, LANES>;
var<workgroup> rows: array<u32, LANES>; // where each key's row begins

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let head = group.x;
  let range = visible[0];
  let prefix = range.y - range.x;
  let keys = prefix + range.w - range.z;
  let q_at = head * HEAD_VECS;
  let k_head = head / GROUP * HEAD_VECS;

  var sum: array<Vec, OWN_VECS>; // Σ exp(s − m) v, elements lane, lane + LANES, … of the head
  var m = LOWEST;                // the largest score so far
  var l = 0.0;                   // Σ exp(s − m)
  for (var first = 0u; first < keys; first += LANES) {
    // The lane's key. Lanes past the end repeat the last one, with weight 0.
    let n = min(first + lane, keys - 1u);
    let at = select(range.z + n - prefix, range.x + n, n < prefix) * KEY_STRIDE + k_head;
    var score = 0.0;
    for (var d = 0u; d < HEAD_VECS; d++) {
      score += dot(q[q_at + d], k[at + d]);
    }
    scores[lane] = select(LOWEST, score * SCALE, first + lane < keys);
    workgroupBarrier(); // the scores are there, and what follows has been read by everybody

    var m_new = m;
    for (var i = 0u; i < LANES; i++) {
      m_new = max(m_new, scores[i]);
    }
    weights[lane] = exp(scores[lane] - m_new);
    rows[lane] = at;
    workgroupBarrier(); // weights and rows are there, and the scores have been read by everybody

    let rescale = exp(m - m_new);
    m = m_new;
    l *= rescale;
    for (var own = 0u; own < OWN_VECS; own++) {
      sum[own] *= rescale;
    }
    for (var i = 0u; i < LANES; i += 4u) {
      let p = vec4f(weights[i], weights[i + 1u], weights[i + 2u], weights[i + 3u]);
      let v_at = vec4u(rows[i], rows[i + 1u], rows[i + 2u], rows[i + 3u]) + lane;
      l += p.x + p.y + p.z + p.w;
      for (var own = 0u; lane + own * LANES < HEAD_VECS; own++) {
        let at_d = v_at + own * LANES;
        sum[own] += p.x * v[at_d.x] + p.y * v[at_d.y] + p.z * v[at_d.z] + p.w * v[at_d.w];
      }
    }
  }
  for (var own = 0u; lane + own * LANES < HEAD_VECS; own++) {
    o[q_at + lane + own * LANES] = sum[own] / l;
  }
  if (lane == 0u) {
    stats[head].x = m + log(l);
  }
}
