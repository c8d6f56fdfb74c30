// elementwise/pack_rows: rows of f32 as f16, each times a power of two that puts its largest element in [256, 512)
// x: (T, C) f32, rows padded with zeros to GROUPS · 8 elements, as row_vec gives it: a matrix, or SwiGLU's product as it is
// computed (library/rows_plain, rows_swiglu).  y: the same as f16, eight to a vec4u.
// factor[t] = the power of two that x[t] = y[t] · factor[t] takes, 1 for a row of zeros. So a gradient of 1e-9 keeps its
// digits and an activation of 30,000 does not overflow; elements below 2^-22 of the row's largest lose some of theirs.
// A row with a NaN or an infinity keeps it. Every element of y and factor is written.
// One workgroup per row. Dispatch: (T). Reference: test/reference/pack.ts

override GROUPS: u32;

@group(0) @binding(0) var<storage, read_write> y: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> factor: array<f32>;

const MAX_EXPONENT = 8u; // of the largest element

var<workgroup> largest: array<u32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x;
  let start = row * 2u * GROUPS;

  // Magnitudes compare like their bits, NaN above infinity above all numbers.
  var bits = vec4u();
  for (var i = lane; i < 2u * GROUPS; i += LANES) {
    bits = max(bits, bitcast<vec4u>(row_vec(start + i)) & vec4u(0x7fffffffu));
  }
  largest[lane] = max(max(bits.x, bits.y), max(bits.z, bits.w));
  workgroupBarrier(); // every lane's largest is there
  var row_largest = 0u;
  for (var i = 0u; i < LANES; i++) {
    row_largest = max(row_largest, largest[i]);
  }

  // Biased exponents: of the largest element, and of the factor that takes it to 2^MAX_EXPONENT and back.
  let exponent = row_largest >> 23u;
  var back = 127u;
  if (exponent > 0u && exponent < 255u) {
    back = clamp(exponent, MAX_EXPONENT + 1u, 253u) - MAX_EXPONENT;
  }
  let forth = 254u - back;
  let scale = bitcast<f32>(forth << 23u);
  for (var i = lane; i < GROUPS; i += LANES) {
    y[row * GROUPS + i] = pack_f16(row_vec(start + 2u * i) * scale, row_vec(start + 2u * i + 1u) * scale);
  }
  if (lane == 0u) {
    factor[row] = bitcast<f32>(back << 23u);
  }
}
