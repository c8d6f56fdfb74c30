// optimizer/adamw_8bit: AdamW whose moments are kept in 8 bits by blocks of 256 elements (Dettmers et al. 2022, section 2)
//   m ← β1 m + (1 − β1) g;  v ← β2 v + (1 − β2) g²;  p ← (p − lr / c1 · m / (√v / √c2 + eps)) · decay
// with the unquantized new m and v, as bitsandbytes' kOptimizerStatic8bit2StateBlockwise; c1, c2 as in optimizer/adamw.
// A moment is stored as absmax[block] · code[byte]: m through the signed dynamic map code[0..256), v through the unsigned
// one code[256..512), both ascending; a byte is the nearest code of value / absmax.
// g, p: (ROWS, COLS) f32, rows of STRIDE elements. Elements are counted without the padding: then blocks are the same as
// those of the dense tensor. m_bytes, v_bytes: 4 bytes to a u32, 64 u32 to a block. absmax: (BLOCKS) of (m's, v's).
// g is scaled by clip.y first. Where clip.z is 0 (the gradient is not finite) nothing changes; else all of p, m and v does.
// One workgroup of LANES per block. Dispatch: BLOCKS in rows of GROUPS_X. Reference: test/reference/optimizer.ts

override LANES: u32;     // at most 64: the adapter's subgroup size, within which barriers cost next to nothing
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

var<workgroup> largest: array<vec2f, LANES>;

// Where element e of the dense tensor lies among padded rows.
fn place(e: u32) -> u32 {
  return e / COLS * STRIDE + e % COLS;
}

// The new (m, v) of element e, whose old bytes stand in the j-th place of the two words.
fn new_moments(e: u32, j: u32, m_word: u32, v_word: u32, before: vec2f) -> vec2f {
  let g = gradient[place(e)] * clip.y;
  let m = before.x * code[extractBits(m_word, 8u * j, 8u)];
  let v = before.y * code[256u + extractBits(v_word, 8u * j, 8u)];
  return vec2f(step.beta1 * m + step.one_minus_beta1 * g, step.beta2 * v + step.one_minus_beta2 * g * g);
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

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let block = group.y * GROUPS_X + group.x;
  if (block >= BLOCKS || clip.z == 0.0) {
    return;
  }
  let before = absmax[block];
  var my_largest = vec2f();
  for (var i = lane; i < 64u; i += LANES) {
    let word = block * 64u + i;
    for (var j = 0u; j < 4u && word * 4u + j < ELEMENTS; j++) {
      my_largest = max(my_largest, abs(new_moments(word * 4u + j, j, m_bytes[word], v_bytes[word], before)));
    }
  }
  largest[lane] = my_largest;
  workgroupBarrier(); // every lane has read the old absmax and offered its largest
  var after = vec2f();
  for (var i = 0u; i < LANES; i++) {
    after = max(after, largest[i]);
  }

  for (var i = lane; i < 64u; i += LANES) {
    let word = block * 64u + i;
    var m_word = 0u;
    var v_word = 0u;
    for (var j = 0u; j < 4u && word * 4u + j < ELEMENTS; j++) {
      let moments = new_moments(word * 4u + j, j, m_bytes[word], v_bytes[word], before);
      let at = place(word * 4u + j);
      let update = step.step_size * moments.x / (sqrt(moments.y) / step.root_correction2 + step.eps);
      parameter[at] = (parameter[at] - update) * step.decay;
      // A block of zeros has no scale; any byte would do, since it is multiplied by an absmax of 0.
      if (after.x > 0.0) {
        m_word = insertBits(m_word, nearest_signed(moments.x / after.x), 8u * j, 8u);
      }
      if (after.y > 0.0) {
        v_word = insertBits(v_word, nearest(256u, moments.y / after.y), 8u * j, 8u);
      }
    }
    m_bytes[word] = m_word;
    v_bytes[word] = v_word;
  }
  if (lane == 0u) {
    absmax[block] = after;
  }
}
