// head/chunk: one chunk of the vocabulary for each row, as online softmax (Milakov and Gimelshein 2018, algorithm 3)
// logits: (R, V_chunk) f32, rows of CHUNK_STRIDE elements; tokens FIRST.. of the vocabulary. With EXPONENTIATE exp(logit − m)
// of each is kept, m being the largest logit of the row so far, in its place or, in f16, in a matrix of the same shape
// (library/exponentials_f32, exponentials_f16). scale[r] = exp(m_before − m) is what earlier sums of such exponentials must
// be multiplied by.
// state[r] = (m, Σ exp(l − m), Σ exp(l − m)(l − m), Σ l) and best[r] = the first token whose logit is m, over the chunks so
// far. target_logits[2r], [2r+1]: the logits of the two targets of the row, written by the chunk that holds them.
// targets: (R, 2) u32: the chosen and the rejected answer's token, a number beyond the vocabulary
// where the row predicts only one.
// One workgroup per row. Dispatch: (R). Reference: test/reference/head.ts

override CHUNK_STRIDE: u32;
override EXPONENTIATE: bool;

@group(0) @binding(0) var<uniform> chunk: Chunk;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> state: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> best: array<u32>;
@group(0) @binding(5) var<storage, read_write> scale: array<f32>;
@group(0) @binding(6) var<storage, read_write> target_logits: array<f32>;

const LOWEST = -3.4028234e38;

var<workgroup> largest: array<f32, LANES>;
var<workgroup> largest_at: array<u32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x;
  let row_start = row * CHUNK_STRIDE;

  var my_largest = LOWEST;
  var my_largest_at = 0u;
  for (var i = lane; i < chunk.columns; i += LANES) {
    if (logits[row_start + i] > my_largest) {
      my_largest = logits[row_start + i];
      my_largest_at = i;
    }
  }
  largest[lane] = my_largest;
  largest_at[lane] = my_largest_at;
  if (lane < 2u) {
    let token = targets[2u * row + lane];
    if (token >= chunk.first && token < chunk.first + chunk.columns) {
      target_logits[2u * row + lane] = logits[row_start + token - chunk.first];
    }
  }
  workgroupBarrier(); // every lane's largest is there, and the targets are read before logits are overwritten
  var chunk_largest = LOWEST;
  var chunk_best = 0u;
  for (var i = 0u; i < LANES; i++) {
    if (largest[i] > chunk_largest || (largest[i] == chunk_largest && largest_at[i] < chunk_best)) {
      chunk_largest = largest[i];
      chunk_best = largest_at[i];
    }
  }

  var before = vec4f(LOWEST, 0.0, 0.0, 0.0);
  if (chunk.is_first == 0u) {
    before = state[row];
  }
  let m = max(before.x, chunk_largest);
  var exponentials = 0.0;
  var weighted = 0.0;
  var plain = 0.0;
  for (var i = lane; i < chunk.columns; i += LANES) {
    let logit = logits[row_start + i];
    let exponential = exp(logit - m);
    exponentials += exponential;
    weighted += exponential * (logit - m);
    plain += logit;
    if (EXPONENTIATE) {
      keep_exponential(row, i, exponential);
    }
  }
  if (EXPONENTIATE) {
    for (var i = chunk.columns + lane; i < CHUNK_STRIDE; i += LANES) {
      keep_padding(row, i);
    }
  }
  let chunk_exponentials = workgroup_sum(exponentials, lane);
  let chunk_weighted = workgroup_sum(weighted, lane);
  let chunk_plain = workgroup_sum(plain, lane);

  if (lane == 0u) {
    // Sums of the earlier chunks, moved from their largest logit to m. The first chunk has none, and no shift to take.
    let shift = select(before.x - m, 0.0, chunk.is_first == 1u);
    let rescale = exp(shift);
    state[row] = vec4f(
      m,
      before.y * rescale + chunk_exponentials,
      (before.z + before.y * shift) * rescale + chunk_weighted,
      before.w + chunk_plain);
    scale[row] = rescale;
    if (chunk.is_first == 1u || chunk_largest > before.x) {
      best[row] = chunk.first + chunk_best;
    }
  }
}
