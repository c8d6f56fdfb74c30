// head/backward: dh = Σ_s c_s · (W[target_s] − E),  E = Σ_v p_v W_v the expected row of the head under the softmax
// The gradient with respect to the hidden row of Σ_s c_s · log p(target_s), s the row's one or two targets.
// sums: (R, C) f32: Σ_v exp(l_v − m) W_v, left by the chunks.  state: (R) vec4f of head/chunk, whose y is Σ_v exp(l_v − m).
// coefficients: (R, 2) f32: d loss / d log-probability of each target, 0 where there is none.  targets: (R, 2) u32.
// W: rows FIRST_ROW to FIRST_ROW + ROWS of the head, bf16 packed two to a u32, or f32, C padded to GROUPS · 8 elements.
// dh: (R, C) f32. The first part of the head (FIRST_ROW = 0) writes every element, the others add the targets they hold.
// One invocation per 8 elements. Dispatch: (ceil(GROUPS / 64), R). Reference: test/reference/head.ts

override GROUPS: u32;
override FIRST_ROW: u32;
override ROWS: u32;
override W_IS_F32: bool;

@group(0) @binding(0) var<storage, read> targets: array<u32>;
@group(0) @binding(1) var<storage, read> coefficients: array<f32>;
@group(0) @binding(2) var<storage, read> state: array<vec4f>;
@group(0) @binding(3) var<storage, read> sums: array<vec4f>;
@group(0) @binding(4) var<storage, read> w: array<vec4u>;
@group(0) @binding(5) var<storage, read_write> dh: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= GROUPS) {
    return;
  }
  let row = id.y;
  let at = (row * GROUPS + id.x) * 2u;
  var low: vec4f;
  var high: vec4f;
  if (FIRST_ROW == 0u) {
    let expected = (coefficients[2u * row] + coefficients[2u * row + 1u]) / state[row].y;
    low = -expected * sums[at];
    high = -expected * sums[at + 1u];
  } else {
    low = dh[at];
    high = dh[at + 1u];
  }
  for (var s = 0u; s < 2u; s++) {
    let token = targets[2u * row + s];
    if (token >= FIRST_ROW && token < FIRST_ROW + ROWS) {
      let coefficient = coefficients[2u * row + s];
      let source = (token - FIRST_ROW) * GROUPS + id.x;
      if (W_IS_F32) {
        low += coefficient * bitcast<vec4f>(w[2u * source]);
        high += coefficient * bitcast<vec4f>(w[2u * source + 1u]);
      } else {
        low += coefficient * widen_low(w[source]);
        high += coefficient * widen_high(w[source]);
      }
    }
  }
  dh[at] = low;
  dh[at + 1u] = high;
}
