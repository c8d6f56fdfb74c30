// head/divergence: one chunk of the vocabulary towards KL(π ‖ π_ref) of each row, over the whole vocabulary:
//   Σ π (ln π − ln π_ref) = D / S − ln S + ln S_ref,  D = Σ e^(l − m) ((l − m) − (l_ref − m_ref))
// policy, reference: (R, V_chunk) f32 logits l and l_ref, rows of CHUNK_STRIDE elements; m and m_ref the largest of each.
// state[2r] = (m, S = Σ e^(l − m), D, 0), state[2r + 1] = (m_ref, S_ref, 0, 0), over the chunks so far. The host puts them
// together. Logits enter only as distances from the largest: how large those are costs no digits.
// One workgroup per row. Dispatch: (R). Reference: test/reference/head.ts

override CHUNK_STRIDE: u32;

@group(0) @binding(0) var<uniform> chunk: Chunk;
@group(0) @binding(1) var<storage, read> policy: array<f32>;
@group(0) @binding(2) var<storage, read> reference: array<f32>;
@group(0) @binding(3) var<storage, read_write> state: array<vec4f>;

const LOWEST = -3.4028234e38;

var<workgroup> largest: array<vec2f, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x;
  let row_start = row * CHUNK_STRIDE;

  var my_largest = vec2f(LOWEST);
  for (var i = lane; i < chunk.columns; i += LANES) {
    my_largest = max(my_largest, vec2f(policy[row_start + i], reference[row_start + i]));
  }
  largest[lane] = my_largest;
  workgroupBarrier(); // every lane's largest is there
  var before = vec4f(LOWEST, 0.0, 0.0, 0.0);
  var before_reference = vec4f(LOWEST, 0.0, 0.0, 0.0);
  if (chunk.is_first == 0u) {
    before = state[2u * row];
    before_reference = state[2u * row + 1u];
  }
  var m = vec2f(before.x, before_reference.x);
  for (var i = 0u; i < LANES; i++) {
    m = max(m, largest[i]);
  }

  var exponentials = 0.0;
  var weighted = 0.0;
  var exponentials_reference = 0.0;
  for (var i = lane; i < chunk.columns; i += LANES) {
    let below = policy[row_start + i] - m.x;
    let below_reference = reference[row_start + i] - m.y;
    let exponential = exp(below);
    exponentials += exponential;
    weighted += exponential * (below - below_reference);
    exponentials_reference += exp(below_reference);
  }
  let chunk_exponentials = workgroup_sum(exponentials, lane);
  let chunk_weighted = workgroup_sum(weighted, lane);
  let chunk_exponentials_reference = workgroup_sum(exponentials_reference, lane);

  if (lane == 0u) {
    // Sums of the earlier chunks, moved from their largest logits to m; the first chunk has none, and no shift to take.
    let shift = select(vec2f(before.x, before_reference.x) - m, vec2f(), chunk.is_first == 1u);
    let rescale = exp(shift);
    state[2u * row] = vec4f(
      m.x,
      before.y * rescale.x + chunk_exponentials,
      (before.z + before.y * (shift.x - shift.y)) * rescale.x + chunk_weighted,
      0.0);
    state[2u * row + 1u] = vec4f(
      m.y, before_reference.y * rescale.y + chunk_exponentials_reference, 0.0, 0.0);
  }
}
