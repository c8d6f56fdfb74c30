// elementwise/rope: rotary position embedding in place, in Hugging Face's layout (Su et al. 2021, equation 34, with the
// pairs (d, d + D/2)):  x_d' = x_d cos − x_{d+D/2} sin,  x_{d+D/2}' = x_{d+D/2} cos + x_d sin.
// x: (T, HEADS · D) f32, rows of ROW_STRIDE elements.  positions: (T) u32.  table: (positions, D/2) of (cos, sin), computed
// on the host because WGSL promises only 2^-11 of sin and cos.  INVERSE turns the other way: the gradient.
// One invocation per pair. Dispatch: (ceil(HEADS · D/2 / 64), T). Reference: test/reference/rope.ts

override HEADS: u32;
override HALF: u32; // D/2
override ROW_STRIDE: u32;
override INVERSE: bool;

@group(0) @binding(0) var<storage, read> positions: array<u32>;
@group(0) @binding(1) var<storage, read> table: array<vec2f>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= HEADS * HALF) {
    return;
  }
  let head = id.x / HALF;
  let d = id.x % HALF;
  let turn = table[positions[id.y] * HALF + d];
  let sine = select(turn.y, -turn.y, INVERSE);
  let at = id.y * ROW_STRIDE + head * 2u * HALF + d;
  let first = x[at];
  let second = x[at + HALF];
  x[at] = first * turn.x - second * sine;
  x[at + HALF] = second * turn.x + first * sine;
}
