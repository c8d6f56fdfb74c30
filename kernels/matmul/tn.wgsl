// matmul/tn: Y += Pᵀ·Q
// The gradients of LoRA's factors, summed over the tokens of a batch and over the batches of a step: dB += dYᵀ·U, dA += dUᵀ·X.
// P: (T, I) f32 and Q: (T, J) f32, rows padded with zeros to a multiple of 8 elements.  Y: (I, J) f32 likewise.
// Every element of Y is read and written.
// One invocation computes 8 x 8 elements in registers, as four 4 x 4 matrices, over all T: no float atomics, so the order
// of the sum is always the same. A workgroup computes up to 64 x 64.
// Dispatch: (ceil(J / 8 / GROUP_X), ceil(I / 8 / GROUP_Y)). Reference: test/reference/matmul.ts

override GROUP_X: u32;  // invocations of a workgroup along each side, 64 in all; narrow results want a narrow
override GROUP_Y: u32;  // workgroup, whose invocations then all have a tile
override I_GROUPS: u32; // I / 8
override J_GROUPS: u32; // J / 8

@group(0) @binding(0) var<uniform> count: vec4u; // x: T
@group(0) @binding(1) var<storage, read> p: array<vec4f>;
@group(0) @binding(2) var<storage, read> q: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4f>;

// The outer product of two vectors: column i is q · p[i].
fn outer(p_part: vec4f, q_part: vec4f) -> mat4x4f {
  return mat4x4f(q_part * p_part.x, q_part * p_part.y, q_part * p_part.z, q_part * p_part.w);
}

fn add(at: vec4u, tile: mat4x4f) {
  y[at.x] += tile[0];
  y[at.y] += tile[1];
  y[at.z] += tile[2];
  y[at.w] += tile[3];
}

@compute @workgroup_size(GROUP_X, GROUP_Y)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= J_GROUPS || id.y >= I_GROUPS) {
    return;
  }
  // Column i of tile_ab is row i of the tile's half a (of P), its columns those of half b (of Q).
  var tile_00 = mat4x4f();
  var tile_01 = mat4x4f();
  var tile_10 = mat4x4f();
  var tile_11 = mat4x4f();
  for (var t = 0u; t < count.x; t++) {
    let p_at = (t * I_GROUPS + id.y) * 2u;
    let q_at = (t * J_GROUPS + id.x) * 2u;
    let p_0 = p[p_at];
    let p_1 = p[p_at + 1u];
    let q_0 = q[q_at];
    let q_1 = q[q_at + 1u];
    tile_00 += outer(p_0, q_0);
    tile_01 += outer(p_0, q_1);
    tile_10 += outer(p_1, q_0);
    tile_11 += outer(p_1, q_1);
  }
  let y_at_0 = ((id.y * 8u + vec4u(0u, 1u, 2u, 3u)) * J_GROUPS + id.x) * 2u;
  let y_at_1 = y_at_0 + 8u * J_GROUPS;
  add(y_at_0, tile_00);
  add(y_at_0 + 1u, tile_01);
  add(y_at_1, tile_10);
  add(y_at_1 + 1u, tile_11);
}
