// elementwise/peak: the largest magnitude of a matrix, peak = max over t, c of f_t · |x_tc|
// x: (T, C) f32, rows padded with zeros to VECS vec4.  factor: (T) f32, positive and finite; not read without HAS_FACTOR.
// peak: one u32, the bits of the f32, 0 before. Magnitudes compare like their bits, NaN above infinity above all numbers, so
// the integer maximum is exact in any order, and a NaN or an infinity survives as itself.
// Workgroups of LANES take turns. Dispatch: (any number). Reference: test/reference/pack.ts

override VECS: u32;
override HAS_FACTOR: bool;

@group(0) @binding(0) var<uniform> count: vec4u; // x: T
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read> factor: array<f32>;
@group(0) @binding(3) var<storage, read_write> peak: atomic<u32>;

const INFINITY_BITS = 0x7f800000u;

var<workgroup> largest: array<u32, LANES>;

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  var mine = 0u;
  for (var i = group.x * LANES + lane; i < count.x * VECS; i += groups.x * LANES) {
    let four = bitcast<vec4u>(x[i]) & vec4u(0x7fffffffu);
    var bits = max(max(four.x, four.y), max(four.z, four.w));
    if (HAS_FACTOR && bits < INFINITY_BITS) {
      bits = bitcast<u32>(bitcast<f32>(bits) * factor[i / VECS]);
    }
    mine = max(mine, bits);
  }
  largest[lane] = mine;
  workgroupBarrier(); // every lane's largest is there
  if (lane == 0u) {
    for (var i = 1u; i < LANES; i++) {
      mine = max(mine, largest[i]);
    }
    atomicMax(&peak, mine);
  }
}
