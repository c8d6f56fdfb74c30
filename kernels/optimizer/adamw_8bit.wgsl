// optimizer/adamw_8bit: AdamW whose moments are kept in 8 bits by blocks of 256 elements (Dettmers et al. 2022, section 2)
//   m ← β1 m + (1 − β1) g;  v ← β2 v + (1 − β2) g²;  p ← (p − lr / c1 · m / (√v / √c2 + eps)) · decay
// with the unquantized new m and v, as bitsandbytes' kOptimizerStatic8bit2StateBlockwise; c1, c2 as in optimizer/adamw.
// A moment is stored as absmax[block] · code[byte]: m through the signed dynamic map code[0..256), v through the unsigned
// one code[256..512), both ascending; a byte is the nearest code of value / absmax.
// g, p: (ROWS, COLS) f32, rows of STRIDE elements. Elements are counted without the padding: then blocks are the same as
// those of the dense tensor. m_bytes, v_bytes: 4 bytes to a u32. absmax: (blocks) of (m's, v's).
// g is scaled by clip.y first. Where clip.z is 0 (the gradient is not finite) nothing changes. All of p, m, v is written.
// One workgroup per block, 4 elements per invocation. Dispatch: BLOCKS in rows of GROUPS_X. Reference: test/reference/optimizer.ts

override ELEMENTS: u32;  // ROWS · COLS
override COLS: u32;
override STRIDE: u32;
override BLOCKS: u32;
override GROUPS_X: u32;

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> clip: vec4f;
@group(0) @binding(2) var<storage, read> code: array<f32, 512>;
@group(0) @binding(3) var<storage, read> gradient: array<f32>;
@group(0) @binding(4) var<storage, read_write> parameter: array<f32>;
@group(0) @binding(5) var<storage, read_write> m_bytes: array<u32>;
@group(0) @binding(6) var<storage, read_write> v_bytes: array<u32>;
@group(0) @binding(7) var<storage, read_write> absmax: array<vec2f>;

var<workgroup> largest: array<vec2f, 64>;

// The byte whose code is nearest to x, by bisection among the 256 ascending codes that begin at `first`.
fn nearest(first: u32, x: f32) -> u32 {
  var below = 0u; // the last code known to be ≤ x, if any is
  for (var span = 128u; span > 0u; span >>= 1u) {
    if (code[first + below + span] <= x) {
      below += span;
    }
  }
  let above = min(below + 1u, 255u);
  return select(below, above, x > 0.5 * (code[first + below] + code[first + above]));
}

// As bitsandbytes does it: rounding never changes the sign of a moment.
fn nearest_signed(x: f32) -> u32 {
  let byte = nearest(0u, x);
  if (x > 0.0 && code[byte] < 0.0) {
    return byte + 1u;
  }
  if (x < 0.0 && code[byte] >= 0.0) {
    return byte - 1u;
  }
  return byte;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let block = group.y * GROUPS_X + group.x;
  if (block >= BLOCKS) {
    return;
  }
  let word = block * 64u + lane;
  let first = word * 4u;
  let before = absmax[block];
  let m_packed = m_bytes[word];
  let v_packed = v_bytes[word];

  var m = vec4f();
  var v = vec4f();
  for (var j = 0u; j < 4u; j++) {
    if (first + j < ELEMENTS) {
      let at = (first + j) / COLS * STRIDE + (first + j) % COLS;
      let g = gradient[at] * clip.y;
      m[j] = step.beta1 * before.x * code[extractBits(m_packed, 8u * j, 8u)] + step.one_minus_beta1 * g;
      v[j] = step.beta2 * before.y * code[256u + extractBits(v_packed, 8u * j, 8u)] + step.one_minus_beta2 * g * g;
    }
  }
  let m_size = abs(m);
  largest[lane] = vec2f(max(max(m_size.x, m_size.y), max(m_size.z, m_size.w)), max(max(v.x, v.y), max(v.z, v.w)));
  workgroupBarrier(); // every lane has read the old absmax and offered its largest
  var after = vec2f();
  for (var i = 0u; i < 64u; i++) {
    after = max(after, largest[i]);
  }
  if (first >= ELEMENTS || clip.z == 0.0) {
    return;
  }

  var m_new = 0u;
  var v_new = 0u;
  for (var j = 0u; j < 4u && first + j < ELEMENTS; j++) {
    let at = (first + j) / COLS * STRIDE + (first + j) % COLS;
    let update = step.step_size * m[j] / (sqrt(v[j]) / step.root_correction2 + step.eps);
    parameter[at] = (parameter[at] - update) * step.decay;
    // A block of zeros has no scale; any byte would do, since it is multiplied by an absmax of 0.
    if (after.x > 0.0) {
      m_new = insertBits(m_new, nearest_signed(m[j] / after.x), 8u * j, 8u);
    }
    if (after.y > 0.0) {
      v_new = insertBits(v_new, nearest(256u, v[j] / after.y), 8u * j, 8u);
    }
  }
  m_bytes[word] = m_new;
  v_bytes[word] = v_new;
  if (lane == 0u) {
    absmax[block] = after;
  }
}
