// matmul/nn: Y = scale · X·W (+ U·A) (+ row_scale ⊙ Y)
// The gradient of a linear layer's input, with LoRA's: dX = dY·W + dU·A, or any product with a row-major right side.
// X: (M, N) f32, columns from FIRST_COLUMN on of rows of X_STRIDE.  W: (N, K), bf16 packed two to a u32, or f32.
// Y: (M, K) f32.  U: (M, RANK) f32 and A: (RANK, K) f32, only where RANK > 0.  row_scale: (M) f32.
// What was in Y is dropped (PRIOR = 0), added (1), or multiplied by row_scale and added (2).
// Rows are padded with zeros to a multiple of 8 elements, W and A also to a multiple of 8 rows.
// Every element of Y is written; its padding stays zero because W's is.
// One invocation computes 8 x 8 elements in registers, as four 4 x 4 matrices, and a workgroup up to 64 x 64.
// Dispatch: (ceil(K / 8 / GROUP_X), ceil(M / 8 / GROUP_Y)). Reference: test/reference/matmul.ts

override GROUP_X: u32;       // invocations of a workgroup along each side, 64 in all; narrow results want a narrow
override GROUP_Y: u32;       // workgroup, whose invocations then all have a tile
override K_GROUPS: u32;      // K / 8
override N_GROUPS: u32;      // N / 8
override X_STRIDE: u32;      // in vec4
override FIRST_COLUMN: u32;  // in vec4
override W_IS_F32: bool;
override RANK_GROUPS: u32;   // RANK / 8, 0 for no LoRA
override PRIOR: u32;
override SCALE: f32;

@group(0) @binding(0) var<uniform> count: vec4u; // x: M
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read> w: array<vec4u>;
@group(0) @binding(3) var<storage, read> u: array<vec4f>;
@group(0) @binding(4) var<storage, read> a: array<vec4f>;
@group(0) @binding(5) var<storage, read> row_scale: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4f>;

// Each has four rows of X or U as its columns, four elements of each.
fn x_rows(at: vec4u) -> mat4x4f { return mat4x4f(x[at.x], x[at.y], x[at.z], x[at.w]); }
fn u_rows(at: vec4u) -> mat4x4f { return mat4x4f(u[at.x], u[at.y], u[at.z], u[at.w]); }

// What four elements in four rows of Y start from.
fn prior(at: vec4u, row: vec4u) -> mat4x4f {
  switch PRIOR {
    case 1u: { return mat4x4f(y[at.x], y[at.y], y[at.z], y[at.w]); }
    case 2u: {
      return mat4x4f(
        y[at.x] * row_scale[row.x],
        y[at.y] * row_scale[row.y],
        y[at.z] * row_scale[row.z],
        y[at.w] * row_scale[row.w]);
    }
    default: { return mat4x4f(); }
  }
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
  if (id.x >= K_GROUPS || row >= rows) {
    return;
  }
  // Rows of the tile that lie past the end are the last row again.
  let m_0 = min(row + vec4u(0u, 1u, 2u, 3u), vec4u(rows - 1u));
  let m_1 = min(row + vec4u(4u, 5u, 6u, 7u), vec4u(rows - 1u));

  // Column i of tile_ab is row i of the tile's half a (of X), its columns those of half b (of W).
  var tile_00 = mat4x4f();
  var tile_01 = mat4x4f();
  var tile_10 = mat4x4f();
  var tile_11 = mat4x4f();
  for (var n = 0u; n < 2u * N_GROUPS; n++) {
    let x_0 = x_rows(m_0 * X_STRIDE + FIRST_COLUMN + n);
    let x_1 = x_rows(m_1 * X_STRIDE + FIRST_COLUMN + n);
    // Four rows of W as columns: elements 0..3 and 4..7 of this invocation's eight.
    var w_0: mat4x4f;
    var w_1: mat4x4f;
    if (W_IS_F32) {
      let at = (4u * n + vec4u(0u, 1u, 2u, 3u)) * (2u * K_GROUPS) + 2u * id.x;
      w_0 = mat4x4f(bitcast<vec4f>(w[at.x]), bitcast<vec4f>(w[at.y]), bitcast<vec4f>(w[at.z]), bitcast<vec4f>(w[at.w]));
      w_1 = mat4x4f(bitcast<vec4f>(w[at.x + 1u]), bitcast<vec4f>(w[at.y + 1u]), bitcast<vec4f>(w[at.z + 1u]), bitcast<vec4f>(w[at.w + 1u]));
    } else {
      let at = (4u * n + vec4u(0u, 1u, 2u, 3u)) * K_GROUPS + id.x;
      let p_0 = w[at.x];
      let p_1 = w[at.y];
      let p_2 = w[at.z];
      let p_3 = w[at.w];
      w_0 = mat4x4f(widen_low(p_0), widen_low(p_1), widen_low(p_2), widen_low(p_3));
      w_1 = mat4x4f(widen_high(p_0), widen_high(p_1), widen_high(p_2), widen_high(p_3));
    }
    tile_00 += w_0 * x_0;
    tile_01 += w_1 * x_0;
    tile_10 += w_0 * x_1;
    tile_11 += w_1 * x_1;
  }
  tile_00 *= SCALE;
  tile_01 *= SCALE;
  tile_10 *= SCALE;
  tile_11 *= SCALE;
  for (var r = 0u; r < 2u * RANK_GROUPS; r++) {
    let u_0 = u_rows(m_0 * 2u * RANK_GROUPS + r);
    let u_1 = u_rows(m_1 * 2u * RANK_GROUPS + r);
    let at = (4u * r + vec4u(0u, 1u, 2u, 3u)) * (2u * K_GROUPS) + 2u * id.x;
    let a_0 = mat4x4f(a[at.x], a[at.y], a[at.z], a[at.w]);
    let a_1 = mat4x4f(a[at.x + 1u], a[at.y + 1u], a[at.z + 1u], a[at.w + 1u]);
    tile_00 += a_0 * u_0;
    tile_01 += a_1 * u_0;
    tile_10 += a_0 * u_1;
    tile_11 += a_1 * u_1;
  }
  // Everything is read before anything is written, as rows past the end write what the last row does once more. That
  // takes no branch and no index into a matrix that the compiler does not know: with them Mesa's lavapipe (26.1, LLVM 21)
  // lost some of the stores at some shapes.
  let y_at_0 = (m_0 * K_GROUPS + id.x) * 2u;
  let y_at_1 = (m_1 * K_GROUPS + id.x) * 2u;
  tile_00 += prior(y_at_0, m_0);
  tile_01 += prior(y_at_0 + 1u, m_0);
  tile_10 += prior(y_at_1, m_1);
  tile_11 += prior(y_at_1 + 1u, m_1);
  store(y_at_0, tile_00);
  store(y_at_0 + 1u, tile_01);
  store(y_at_1, tile_10);
  store(y_at_1 + 1u, tile_11);
}
