// export/merge: V = round(W + Δ) with Δ = scale · B·A, and how much of Δ the rounding kept
// LoRA's merge (Hu et al. 2021, section 4): the sum is made in f32, then rounded to nearest even in the dtype of V.
// W: (M, N) in W_DTYPE.  A: (RANK, N) f32.  B: (M, RANK) f32.  V: (M, N) in V_DTYPE. Elements of 16 bits are packed two to
// a u32, the even one in the low half. Rows are padded with zeros to a multiple of 8 elements, A also to a multiple of 8
// rows. Every element of V's M rows is written; its padding becomes zero because W's and A's is.
// sums: (workgroups, 8) f32, all written:
//   Σ Δ², Σ c·Δ, Σ (c − Δ)², Σ W², Σ c₁₆·Δ, Σ (c₁₆ − Δ)², elements with c ≠ 0, elements of V that are not finite
// where c = V − round(W) is what arrived of Δ, and c₁₆ what arrives where both are rounded to float16 instead. Δ, c and
// c₁₆ are multiplied by `unit`, a power of two, so that the squares of a small Δ stay in f32's range.
// B·A is a sum of fused multiply-adds in the order of the rank, which is what the BLAS behind torch does on a CPU, so that
// a merge has the bits of PEFT's and is the same on every device.
// One invocation computes 8 x 8 elements; a workgroup LANES of them side by side.
// No atomics, so the sums are the same in every run.
// Dispatch: (ceil(N / (8 · LANES)), ceil(M / 8)). Reference: test/reference/merge.ts

override W_DTYPE: u32; // BF16, F16 or F32 of library/float_formats
override V_DTYPE: u32;

struct Lora {
  column_groups: u32, // N / 8
  rank_groups: u32,   // RANK / 8
  scale: f32,
  unit: f32,
  zero: u32,          // for library/fused
}

@group(0) @binding(0) var<uniform> count: vec4u; // x: M
@group(0) @binding(1) var<uniform> lora: Lora;
@group(0) @binding(2) var<storage, read> w: array<vec2u>;
@group(0) @binding(3) var<storage, read> a: array<vec4f>;
@group(0) @binding(4) var<storage, read> b: array<f32>;
@group(0) @binding(5) var<storage, read_write> v: array<vec2u>;
@group(0) @binding(6) var<storage, read_write> sums: array<f32>;

// Element k of four rows of B.
fn b_column(row: u32, k: u32) -> vec4f {
  let stride = 8u * lora.rank_groups;
  let at = row * stride + k;
  return vec4f(b[at], b[at + stride], b[at + 2u * stride], b[at + 3u * stride]);
}

fn add_outer(tile: mat4x4f, b_part: vec4f, a_part: vec4f) -> mat4x4f {
  return mat4x4f(
    fused(vec4f(b_part.x), a_part, tile[0], lora.zero), fused(vec4f(b_part.y), a_part, tile[1], lora.zero),
    fused(vec4f(b_part.z), a_part, tile[2], lora.zero), fused(vec4f(b_part.w), a_part, tile[3], lora.zero));
}

// The patterns of four elements of W from element 4·at on.
fn load(at: u32) -> vec4u {
  if (W_DTYPE == F32) {
    return vec4u(w[2u * at], w[2u * at + 1u]);
  }
  let pairs = w[at];
  return vec4u(pairs.x & 0xffffu, pairs.x >> 16u, pairs.y & 0xffffu, pairs.y >> 16u);
}

fn store(at: u32, pattern: vec4u) {
  if (V_DTYPE == F32) {
    v[2u * at] = pattern.xy;
    v[2u * at + 1u] = pattern.zw;
  } else {
    v[at] = pattern.xz | (pattern.yw << vec2u(16u));
  }
}

struct Sums {
  first: vec4f,
  second: vec4f,
}

fn add(base: vec4f, update: vec4f) -> vec4f {
  // A GPU may flush subnormal operands to zero; where nothing is added the base's own bits stand.
  let magnitude = bitcast<vec4u>(base) & vec4u(0x7fffffffu);
  let is_subnormal = (magnitude > vec4u(0u)) & (magnitude < vec4u(0x00800000u));
  return select(opaque(base + update, lora.zero), base, is_subnormal & (update == vec4f(0.0)));
}

fn ones(condition: vec4<bool>) -> f32 {
  return dot(select(vec4f(0.0), vec4f(1.0), condition), vec4f(1.0));
}

// Merges four elements; returns their patterns.
fn merge(base: vec4f, update: vec4f, total: ptr<function, Sums>) -> vec4u {
  let sum = add(base, update);
  let pattern = encode(V_DTYPE, sum);
  let merged = decode(V_DTYPE, pattern);
  let not_finite = (bitcast<vec4u>(merged) & INFINITY_BITS) == INFINITY_BITS;

  let delta = update * lora.unit;
  let arrived = (merged - decode(V_DTYPE, encode(V_DTYPE, base))) * lora.unit;
  let arrived_16 = (decode(F16, encode(F16, sum)) - decode(F16, encode(F16, base))) * lora.unit;
  let lost = arrived - delta;
  let lost_16 = arrived_16 - delta;
  total.first += vec4f(dot(delta, delta), dot(arrived, delta), dot(lost, lost), dot(base, base));
  total.second += vec4f(
    dot(arrived_16, delta), dot(lost_16, lost_16), ones(arrived != vec4f(0.0)), ones(not_finite));
  return pattern;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup.y * 8u;
  let column = workgroup.x * LANES + lane;
  var total = Sums();
  if (column < lora.column_groups) {
    // Column i of tile_ab is row i of the tile's half a (of B), its elements those of half b (of A).
    var tile_00 = mat4x4f();
    var tile_01 = mat4x4f();
    var tile_10 = mat4x4f();
    var tile_11 = mat4x4f();
    for (var k = 0u; k < 8u * lora.rank_groups; k++) {
      let a_0 = a[(k * lora.column_groups + column) * 2u];
      let a_1 = a[(k * lora.column_groups + column) * 2u + 1u];
      let b_0 = b_column(row, k);
      let b_1 = b_column(row + 4u, k);
      tile_00 = add_outer(tile_00, b_0, a_0);
      tile_01 = add_outer(tile_01, b_0, a_1);
      tile_10 = add_outer(tile_10, b_1, a_0);
      tile_11 = add_outer(tile_11, b_1, a_1);
    }
    // By row and half; an array, so that there is one copy of the code below.
    var updates = array<vec4f, 16>(
      tile_00[0], tile_01[0], tile_00[1], tile_01[1], tile_00[2], tile_01[2], tile_00[3], tile_01[3],
      tile_10[0], tile_11[0], tile_10[1], tile_11[1], tile_10[2], tile_11[2], tile_10[3], tile_11[3]);
    let end = 2u * min(8u, count.x - row);
    for (var i = 0u; i < end; i++) {
      let at = 2u * ((row + i / 2u) * lora.column_groups + column) + i % 2u;
      store(at, merge(decode(W_DTYPE, load(at)), opaque(updates[i] * lora.scale, lora.zero), &total));
    }
  }
  let workgroups = (lora.column_groups + LANES - 1u) / LANES;
  let first = 8u * (workgroup.y * workgroups + workgroup.x);
  for (var i = 0u; i < 4u; i++) {
    let sum_1 = workgroup_sum(total.first[i], lane);
    let sum_2 = workgroup_sum(total.second[i], lane);
    if (lane == 0u) {
      sums[first + i] = sum_1;
      sums[first + 4u + i] = sum_2;
    }
  }
}
