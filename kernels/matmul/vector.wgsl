// matmul/vector: y = scale · x·Wᵀ (+ u·Bᵀ) (+ r) for a single row x: the linear layer of a token that is generated.
// x: (K) f32.  W: (N, K), bf16 packed two to a u32, or f32.  y: (N) f32, columns from FIRST_COLUMN on.  u: (RANK) f32 and
// B: (N, RANK) f32, only where RANK > 0.  r: like y, only where HAS_RESIDUAL.
// Rows are padded with zeros to a multiple of 8 elements, W and B also to a multiple of 8 rows.
// Every element of y in those columns is written; its padding becomes zero because W's and r's is.
// Such a product is bound by reading W. One workgroup computes four elements of y: its lanes lie side by side along K, so
// that each load of W is one coalesced stretch of 16 bytes a lane, and no weight is read twice.
// Dispatch: (GRID_X, ceil(N / 4 / GRID_X)). Reference: test/reference/matmul.ts

override LANES: u32;         // the adapter's subgroup size: barriers within a subgroup cost next to nothing
override GRID_X: u32;        // workgroups along x: a large vocabulary needs more than one dimension may have
override K_GROUPS: u32;      // K / 8
override N_VECS: u32;        // N / 4
override FIRST_COLUMN: u32;  // in vec4
override W_IS_F32: bool;
override RANK_VECS: u32;     // RANK / 4, 0 for no LoRA
override HAS_RESIDUAL: bool;
override SCALE: f32;

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> w: array<vec4u>;
@group(0) @binding(2) var<storage, read> u: array<vec4f>;
@group(0) @binding(3) var<storage, read> b: array<vec4f>;
@group(0) @binding(4) var<storage, read> residual: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> y: array<vec4f>;

var<workgroup> partials: array<vec4f, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let column = group.y * GRID_X + group.x;
  if (column >= N_VECS) {
    return;
  }
  let rows = 4u * column + vec4u(0u, 1u, 2u, 3u);
  var sum = vec4f();
  if (W_IS_F32) {
    let at = rows * 2u * K_GROUPS;
    for (var k = lane; k < 2u * K_GROUPS; k += LANES) {
      let w_rows = mat4x4f(
        bitcast<vec4f>(w[at.x + k]), bitcast<vec4f>(w[at.y + k]),
        bitcast<vec4f>(w[at.z + k]), bitcast<vec4f>(w[at.w + k]));
      sum += x[k] * w_rows;
    }
  } else {
    let at = rows * K_GROUPS;
    for (var k = lane; k < K_GROUPS; k += LANES) {
      let p_0 = w[at.x + k];
      let p_1 = w[at.y + k];
      let p_2 = w[at.z + k];
      let p_3 = w[at.w + k];
      sum += x[2u * k] * mat4x4f(widen_low(p_0), widen_low(p_1), widen_low(p_2), widen_low(p_3));
      sum += x[2u * k + 1u] * mat4x4f(widen_high(p_0), widen_high(p_1), widen_high(p_2), widen_high(p_3));
    }
  }
  sum *= SCALE;
  let b_at = rows * RANK_VECS;
  for (var k = lane; k < RANK_VECS; k += LANES) {
    sum += u[k] * mat4x4f(b[b_at.x + k], b[b_at.y + k], b[b_at.z + k], b[b_at.w + k]);
  }

  partials[lane] = sum;
  workgroupBarrier(); // every lane's share is there
  if (lane == 0u) {
    var total = vec4f();
    for (var i = 0u; i < LANES; i++) {
      total += partials[i];
    }
    let to = FIRST_COLUMN + column;
    if (HAS_RESIDUAL) {
      y[to] = residual[to] + total;
    } else {
      y[to] = total;
    }
  }
}
