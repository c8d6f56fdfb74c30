// matmul/nt: Y = scale · X·Wᵀ (+ U·Bᵀ) (+ R)
// The linear layer, with LoRA's second product and the residual connection added on the way out.
// X: (M, K) f32.  W: (N, K), bf16 packed two to a u32, or f32.  Y: (M, N) f32, columns from FIRST_COLUMN on of rows of
// Y_STRIDE.  U: (M, RANK) f32 and B: (N, RANK) f32, only where RANK > 0.  R: like Y, only where HAS_RESIDUAL.
// Rows are padded with zeros to a multiple of 8 elements, W and B also to a multiple of 8 rows.
// Every element of Y in those columns is written; its padding becomes zero because W's and R's is.
// One invocation computes 8 x 8 elements in registers, as four 4 x 4 matrices, and a workgroup up to 64 x 64; no workgroup
// memory and no barrier, so neighbours share their loads through the cache.
// Dispatch: (ceil(N / 8 / GROUP_X), ceil(M / 8 / GROUP_Y)). Reference: test/reference/matmul.ts

override GROUP_X: u32;       // invocations of a workgroup along each side, 64 in all; narrow results want a narrow
override GROUP_Y: u32;       // workgroup, whose invocations then all have a tile
override K_GROUPS: u32;      // K / 8
override N_GROUPS: u32;      // N / 8
override Y_STRIDE: u32;      // in vec4
override FIRST_COLUMN: u32;  // in vec4
override W_IS_F32: bool;
override RANK_GROUPS: u32;   // RANK / 8, 0 for no LoRA
override HAS_RESIDUAL: bool;
override SCALE: f32;

@group(0) @binding(0) var<uniform> count: vec4u; // x: M
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read> w: array<vec4u>;
@group(0) @binding(3) var<storage, read> u: array<vec4f>;
@group(0) @binding(4) var<storage, read> b: array<vec4f>;
@group(0) @binding(5) var<storage, read> residual: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4f>;

// Each has four rows of X, U, W or B as its columns, four elements of each.
fn x_rows(at: vec4u) -> mat4x4f { return mat4x4f(x[at.x], x[at.y], x[at.z], x[at.w]); }
fn u_rows(at: vec4u) -> mat4x4f { return mat4x4f(u[at.x], u[at.y], u[at.z], u[at.w]); }
fn b_rows(at: vec4u) -> mat4x4f { return mat4x4f(b[at.x], b[at.y], b[at.z], b[at.w]); }
fn w_rows(at: vec4u) -> mat4x4f {
  return mat4x4f(bitcast<vec4f>(w[at.x]), bitcast<vec4f>(w[at.y]), bitcast<vec4f>(w[at.z]), bitcast<vec4f>(w[at.w]));
}

fn residual_rows(at: vec4u) -> mat4x4f {
  return mat4x4f(residual[at.x], residual[at.y], residual[at.z], residual[at.w]);
}

fn store(at: vec4u, tile: mat4x4f) {
  y[at.x] = tile[0];
  y[at.y] = tile[1];
  y[at.z] = tile[2];
  y[at.w] = tile[3];
}

@compute @workgroup_size(GROUP_X, GROUP_Y)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let rows = count.x;
  let row = id.y * 8u;
  if (id.x >= N_GROUPS || row >= rows) {
    return;
  }
  // Rows of the tile that lie past the end are the last row again.
  let m_0 = min(row + vec4u(0u, 1u, 2u, 3u), vec4u(rows - 1u));
  let m_1 = min(row + vec4u(4u, 5u, 6u, 7u), vec4u(rows - 1u));
  let n_0 = id.x * 8u + vec4u(0u, 1u, 2u, 3u);
  let n_1 = n_0 + 4u;
  // Where those rows begin, in vec4 of X and, for bf16, in groups of 8 of W.
  let x_at_0 = m_0 * 2u * K_GROUPS;
  let x_at_1 = m_1 * 2u * K_GROUPS;
  let w_at_0 = n_0 * K_GROUPS;
  let w_at_1 = n_1 * K_GROUPS;

  // Column i of tile_ab is row i of the tile's half a (of X), its columns those of half b (of W).
  var tile_00 = mat4x4f();
  var tile_01 = mat4x4f();
  var tile_10 = mat4x4f();
  var tile_11 = mat4x4f();
  if (W_IS_F32) {
    for (var k = 0u; k < 2u * K_GROUPS; k++) {
      let x_0 = x_rows(x_at_0 + k);
      let x_1 = x_rows(x_at_1 + k);
      let w_0 = transpose(w_rows(2u * w_at_0 + k));
      let w_1 = transpose(w_rows(2u * w_at_1 + k));
      tile_00 += w_0 * x_0;
      tile_01 += w_1 * x_0;
      tile_10 += w_0 * x_1;
      tile_11 += w_1 * x_1;
    }
  } else {
    for (var k = 0u; k < K_GROUPS; k++) {
      let p_0 = w[w_at_0.x + k];
      let p_1 = w[w_at_0.y + k];
      let p_2 = w[w_at_0.z + k];
      let p_3 = w[w_at_0.w + k];
      let p_4 = w[w_at_1.x + k];
      let p_5 = w[w_at_1.y + k];
      let p_6 = w[w_at_1.z + k];
      let p_7 = w[w_at_1.w + k];
      {
        let x_0 = x_rows(x_at_0 + 2u * k);
        let x_1 = x_rows(x_at_1 + 2u * k);
        let w_0 = transpose(mat4x4f(widen_low(p_0), widen_low(p_1), widen_low(p_2), widen_low(p_3)));
        let w_1 = transpose(mat4x4f(widen_low(p_4), widen_low(p_5), widen_low(p_6), widen_low(p_7)));
        tile_00 += w_0 * x_0;
        tile_01 += w_1 * x_0;
        tile_10 += w_0 * x_1;
        tile_11 += w_1 * x_1;
      }
      {
        let x_0 = x_rows(x_at_0 + 2u * k + 1u);
        let x_1 = x_rows(x_at_1 + 2u * k + 1u);
        let w_0 = transpose(mat4x4f(widen_high(p_0), widen_high(p_1), widen_high(p_2), widen_high(p_3)));
        let w_1 = transpose(mat4x4f(widen_high(p_4), widen_high(p_5), widen_high(p_6), widen_high(p_7)));
        tile_00 += w_0 * x_0;
        tile_01 += w_1 * x_0;
        tile_10 += w_0 * x_1;
        tile_11 += w_1 * x_1;
      }
    }
  }
  tile_00 *= SCALE;
  tile_01 *= SCALE;
  tile_10 *= SCALE;
  tile_11 *= SCALE;
  for (var k = 0u; k < 2u * RANK_GROUPS; k++) {
    let u_0 = u_rows(m_0 * 2u * RANK_GROUPS + k);
    let u_1 = u_rows(m_1 * 2u * RANK_GROUPS + k);
    let b_0 = transpose(b_rows(n_0 * 2u * RANK_GROUPS + k));
    let b_1 = transpose(b_rows(n_1 * 2u * RANK_GROUPS + k));
    tile_00 += b_0 * u_0;
    tile_01 += b_1 * u_0;
    tile_10 += b_0 * u_1;
    tile_11 += b_1 * u_1;
  }
  // Rows past the end write what the last row does once more. That takes no branch and no index into a matrix that the
  // compiler does not know: with them Mesa's lavapipe (26.1, LLVM 21) lost some of the stores at some shapes.
  let y_at_0 = m_0 * Y_STRIDE + FIRST_COLUMN + 2u * id.x;
  let y_at_1 = m_1 * Y_STRIDE + FIRST_COLUMN + 2u * id.x;
  if (HAS_RESIDUAL) {
    tile_00 += residual_rows(y_at_0);
    tile_01 += residual_rows(y_at_0 + 1u);
    tile_10 += residual_rows(y_at_1);
    tile_11 += residual_rows(y_at_1 + 1u);
  }
  store(y_at_0, tile_00);
  store(y_at_0 + 1u, tile_01);
  store(y_at_1, tile_10);
  store(y_at_1 + 1u, tile_11);
}
