// matmul/tensor: Y = scale · f ⊙ (X·R) (+ U·V) (+ what Y or another matrix holds), on subgroup matrices
// The large products of a linear layer and of its gradient, with LoRA's second product on the way: R = Wᵀ and V = Bᵀ
// forward (TRANSPOSED), R = W and V = A backward. f16 factors, f32 sums.
// X: (M, K) f16, rows times a power of two; f: (M) f32, its inverse (elementwise/pack_rows).
// W: (N, K) f16 for TRANSPOSED, else (K, N). U: (M, RANK) f32. B: (N, RANK) or A: (RANK, N) f32, only where RANK > 0.
// Y: (M, N) f32, columns from first_column on of rows of y_stride. Rows are padded with zeros to a multiple of 8 elements,
// matrices to a multiple of 8 rows. Every element of Y in those columns is written.
// PRIOR: what is added is nothing (0), Y itself (1), Y times row_scale (2), or addend, which is like Y (3).
// A workgroup computes TILE_M × TILE_N elements, SUBGROUPS_M × SUBGROUPS_N subgroups a part of FRAGMENTS_M × FRAGMENTS_N
// subgroup matrices each; both factors go through workgroup memory in steps of STEP along K, and while the matrices are
// multiplied the next step's loads are under way. The fragments are unrolled by src/ops/fragments.ts, which declares the
// sizes, Sums, multiply and store_sums.
// Dispatch: (ceil(N / TILE_N), ceil(M / TILE_M)). Reference: test/reference/matmul.ts

override TRANSPOSED: bool;
override PRIOR: u32;

// Sizes are not overrides, so that a model's products share a few pipelines: each takes long to compile.
struct Sizes {
  k_groups: u32,     // K / 8
  x_stride: u32,     // rows of X, in groups of 8
  x_first: u32,      // first column of X that takes part, in groups of 8
  n_groups: u32,     // N / 8
  y_stride: u32,     // in vec4
  first_column: u32, // in vec4
  rank_groups: u32,  // RANK / 8, 0 for no LoRA
  scale: f32,
}

@group(0) @binding(0) var<uniform> count: vec4u; // x: M
@group(0) @binding(1) var<uniform> sizes: Sizes;
@group(0) @binding(2) var<storage, read> x: array<vec4u>;
@group(0) @binding(3) var<storage, read> factor: array<f32>;
@group(0) @binding(4) var<storage, read> w: array<vec4u>;
@group(0) @binding(5) var<storage, read> u: array<vec4f>;
@group(0) @binding(6) var<storage, read> v: array<vec4f>;
@group(0) @binding(7) var<storage, read> addend: array<vec4f>;
@group(0) @binding(8) var<storage, read_write> y: array<vec4f>;

const THREADS = SUBGROUPS_M * SUBGROUPS_N * SUBGROUP_SIZE;
const STEP_GROUPS = STEP / 8u;
const TILE_N_GROUPS = TILE_N / 8u;
const X_CHUNKS = TILE_M * STEP_GROUPS / THREADS; // groups of 8 that an invocation brings in each step
const R_CHUNKS = TILE_N * STEP_GROUPS / THREADS;
// U is made smaller and V larger by this, exactly: early in training B is so small that f16 would cut its digits.
const V_SCALE = 1024.0;

/** The groups of 8 elements of a step that this invocation brings, kept in registers until the tile is free. */
var<private> x_next: array<vec4u, X_CHUNKS>;
var<private> r_next: array<vec4u, R_CHUNKS>;

// Group `chunk` of a step of X: row chunk / STEP_GROUPS of the tile.
fn load_x(first_row: u32, rows: u32, step: u32, thread: u32) {
  for (var i = 0u; i < X_CHUNKS; i++) {
    let chunk = i * THREADS + thread;
    let row = min(first_row + chunk / STEP_GROUPS, rows - 1u);
    let k = step * STEP_GROUPS + chunk % STEP_GROUPS;
    x_next[i] = select(vec4u(), x[row * sizes.x_stride + sizes.x_first + min(k, sizes.k_groups - 1u)], k < sizes.k_groups);
  }
}

// Groups of a step of R lie along K where it is Wᵀ, else along N.
fn load_r(first_column_group: u32, step: u32, thread: u32) {
  for (var i = 0u; i < R_CHUNKS; i++) {
    let chunk = i * THREADS + thread;
    if (TRANSPOSED) {
      let row = min(8u * first_column_group + chunk / STEP_GROUPS, 8u * sizes.n_groups - 1u);
      let k = step * STEP_GROUPS + chunk % STEP_GROUPS;
      r_next[i] = select(vec4u(), w[row * sizes.k_groups + min(k, sizes.k_groups - 1u)], k < sizes.k_groups);
    } else {
      let k = step * STEP + chunk / TILE_N_GROUPS;
      let n = min(first_column_group + chunk % TILE_N_GROUPS, sizes.n_groups - 1u);
      r_next[i] = select(vec4u(), w[min(k, 8u * sizes.k_groups - 1u) * sizes.n_groups + n], k < 8u * sizes.k_groups);
    }
  }
}

// The same of U, whose rows take the factors of X's so that both products have one sum.
fn load_u(first_row: u32, rows: u32, step: u32, thread: u32) {
  for (var i = 0u; i < X_CHUNKS; i++) {
    let chunk = i * THREADS + thread;
    let row = min(first_row + chunk / STEP_GROUPS, rows - 1u);
    let k = step * STEP_GROUPS + chunk % STEP_GROUPS;
    let at = 2u * (row * sizes.rank_groups + min(k, sizes.rank_groups - 1u));
    let scale = 1.0 / (sizes.scale * V_SCALE * factor[row]);
    x_next[i] = select(vec4u(), pack_f16(u[at] * scale, u[at + 1u] * scale), k < sizes.rank_groups);
  }
}

fn load_v(first_column_group: u32, step: u32, thread: u32) {
  for (var i = 0u; i < R_CHUNKS; i++) {
    let chunk = i * THREADS + thread;
    var at: u32;
    var inside: bool;
    if (TRANSPOSED) {
      let row = min(8u * first_column_group + chunk / STEP_GROUPS, 8u * sizes.n_groups - 1u);
      let k = step * STEP_GROUPS + chunk % STEP_GROUPS;
      at = 2u * (row * sizes.rank_groups + min(k, sizes.rank_groups - 1u));
      inside = k < sizes.rank_groups;
    } else {
      let k = step * STEP + chunk / TILE_N_GROUPS;
      let n = min(first_column_group + chunk % TILE_N_GROUPS, sizes.n_groups - 1u);
      at = 2u * (min(k, 8u * sizes.rank_groups - 1u) * sizes.n_groups + n);
      inside = k < 8u * sizes.rank_groups;
    }
    r_next[i] = select(vec4u(), pack_f16(v[at] * V_SCALE, v[at + 1u] * V_SCALE), inside);
  }
}

fn stage(thread: u32) {
  for (var i = 0u; i < X_CHUNKS; i++) {
    let chunk = i * THREADS + thread;
    x_tile[chunk / STEP_GROUPS * X_TILE_STRIDE + chunk % STEP_GROUPS] = x_next[i];
  }
  for (var i = 0u; i < R_CHUNKS; i++) {
    let chunk = i * THREADS + thread;
    if (TRANSPOSED) {
      r_tile[chunk / STEP_GROUPS * R_TILE_STRIDE + chunk % STEP_GROUPS] = r_next[i];
    } else {
      r_tile[chunk / TILE_N_GROUPS * R_TILE_STRIDE + chunk % TILE_N_GROUPS] = r_next[i];
    }
  }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let rows = count.x;
  let first_row = group.y * TILE_M;
  let first_column_group = group.x * TILE_N_GROUPS;
  let subgroup = thread / SUBGROUP_SIZE;
  let subgroup_row = subgroup / SUBGROUPS_N;
  let subgroup_column = subgroup % SUBGROUPS_N;

  var sums = Sums();
  let steps = (sizes.k_groups + STEP_GROUPS - 1u) / STEP_GROUPS;
  let all_steps = steps + (sizes.rank_groups + STEP_GROUPS - 1u) / STEP_GROUPS;
  load_x(first_row, rows, 0u, thread);
  load_r(first_column_group, 0u, thread);
  for (var step = 0u; step < all_steps; step++) {
    workgroupBarrier(); // the tiles of the step before have been multiplied
    stage(thread);
    workgroupBarrier(); // the tiles of this step are whole
    let next = step + 1u;
    if (next < steps) {
      load_x(first_row, rows, next, thread);
      load_r(first_column_group, next, thread);
    } else if (next < all_steps) {
      load_u(first_row, rows, next - steps, thread);
      load_v(first_column_group, next - steps, thread);
    }
    multiply(&sums, subgroup_row, subgroup_column);
  }

  // The sums leave through workgroup memory, a row of subgroup matrices at a time: there they can be scaled and added to,
  // and what lies past the end is dropped.
  let lane = thread % SUBGROUP_SIZE;
  let part_row = first_row + subgroup_row * FRAGMENTS_M * MATRIX_M;
  let part_column = 2u * first_column_group + subgroup_column * PART_N_VECS;
  for (var i = 0u; i < FRAGMENTS_M; i++) {
    workgroupBarrier(); // the row of matrices before has left
    store_sums(&sums, i, subgroup);
    workgroupBarrier(); // this row is whole
    for (var j = lane; j < MATRIX_M * PART_N_VECS; j += SUBGROUP_SIZE) {
      let row = part_row + i * MATRIX_M + j / PART_N_VECS;
      let column = part_column + j % PART_N_VECS;
      if (row < rows && column < 2u * sizes.n_groups) {
        let at = (subgroup * MATRIX_M + j / PART_N_VECS) * PART_N + 4u * (j % PART_N_VECS);
        let sum = vec4f(sum_tile[at], sum_tile[at + 1u], sum_tile[at + 2u], sum_tile[at + 3u]) * (sizes.scale * factor[row]);
        let to = row * sizes.y_stride + sizes.first_column + column;
        switch PRIOR {
          case 1u: { y[to] += sum; }
          case 2u: { y[to] = y[to] * addend[row / 4u][row % 4u] + sum; }
          case 3u: { y[to] = addend[to] + sum; }
          default: { y[to] = sum; }
        }
      }
    }
  }
}
