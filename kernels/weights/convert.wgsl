// weights/convert: a tensor's rows as they lie in a file → rows of a weight
// source: (rows, cols) elements of SOURCE, row after row without padding, from the buffer's first byte on. 32 bytes past
// them may be read, and are not used.
// weight: rows of 8·groups elements of TARGET. Elements of 16 bits are packed two to a u32, the even one in the low half.
// Of the rows in question every element is written, the padding with zeros.
// losses: 2 u32 per tensor, added to where TARGET is F16: elements that were rounded, and those that became infinite or
// were not finite before.
// Bits are moved and rounded in integer arithmetic, so every device gives the same, NaN's payload included, and no device
// needs f16. BF16 is made from BF16 alone.
// One invocation per 8 elements of a row. Dispatch: (x, y) workgroups of 64 for rows·groups invocations, in any shape.
// Reference: test/reference/convert.ts

override SOURCE: u32; // BF16, F16 or F32 of library/float_formats
override TARGET: u32;

struct Rows {
  cols: u32,
  groups: u32,      // of 8 elements in a row of the weight
  end: u32,         // rows · groups
  first_group: u32, // of the rows' first element in the weight
  tensor: u32,      // whose losses these are
}

@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<storage, read_write> weight: array<vec4u>;
@group(0) @binding(3) var<storage, read_write> losses: array<atomic<u32>>;

// Patterns of eight elements: 16 bits in the low half of a u32, or an f32's bits.
struct Eight {
  low: vec4u,
  high: vec4u,
}

fn words(first: u32) -> vec4u {
  return vec4u(source[first], source[first + 1u], source[first + 2u], source[first + 3u]);
}

fn halves(pairs: vec2u) -> vec4u {
  return vec4u(pairs.x & 0xffffu, pairs.x >> 16u, pairs.y & 0xffffu, pairs.y >> 16u);
}

// Eight elements from element `first` on.
fn load(first: u32) -> Eight {
  if (SOURCE == F32) {
    return Eight(words(first), words(first + 4u));
  }
  var pairs = words(first / 2u);
  if (first % 2u == 1u) {
    // The first is the upper half of its word, so the last is the lower half of a fifth.
    let next = vec4u(pairs.yzw, source[first / 2u + 4u]);
    pairs = (pairs >> vec4u(16u)) | (next << vec4u(16u));
  }
  return Eight(halves(pairs.xy), halves(pairs.zw));
}

// f32's bits of SOURCE's patterns.
fn widen(pattern: vec4u) -> vec4u {
  if (SOURCE == BF16) {
    return pattern << vec4u(16u);
  }
  if (SOURCE == F16) {
    return widen_f16(pattern);
  }
  return pattern;
}

fn ones(condition: vec4<bool>) -> u32 {
  let one = select(vec4u(0u), vec4u(1u), condition);
  return one.x + one.y + one.z + one.w;
}

// TARGET's patterns of SOURCE's. `lost` counts what f16 does not hold: x rounded, y beyond its range.
fn convert(pattern: vec4u, lost: ptr<function, vec2u>) -> vec4u {
  if (TARGET == SOURCE) {
    if (TARGET == F16) {
      (*lost).y += ones((pattern & vec4u(0x7c00u)) == vec4u(0x7c00u));
    }
    return pattern;
  }
  let bits = widen(pattern);
  if (TARGET == F32) {
    return bits;
  }
  let half = encode_f16(bits);
  let is_finite = (half & vec4u(0x7c00u)) != vec4u(0x7c00u);
  *lost += vec2u(ones(is_finite & (widen_f16(half) != bits)), ones(!is_finite));
  return half;
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let at = (workgroup.y * workgroups.x + workgroup.x) * 64u + lane;
  if (at >= rows.end) {
    return;
  }
  let column = at % rows.groups * 8u;
  let loaded = load(at / rows.groups * rows.cols + column);
  let inside = vec4u(rows.cols - column); // elements of the row from here on
  let low = select(vec4u(0u), loaded.low, vec4u(0u, 1u, 2u, 3u) < inside);
  let high = select(vec4u(0u), loaded.high, vec4u(4u, 5u, 6u, 7u) < inside);

  var lost = vec2u();
  let first = convert(low, &lost);
  let second = convert(high, &lost);
  let group = rows.first_group + at;
  if (TARGET == F32) {
    weight[2u * group] = first;
    weight[2u * group + 1u] = second;
  } else {
    weight[group] = vec4u(first.xz | (first.yw << vec2u(16u)), second.xz | (second.yw << vec2u(16u)));
  }
  if (lost.x > 0u) {
    atomicAdd(&losses[2u * rows.tensor], lost.x);
  }
  if (lost.y > 0u) {
    atomicAdd(&losses[2u * rows.tensor + 1u], lost.y);
  }
}
