// matmul/tensor: Y = scale · f ⊙ (X·R) (+ U·V) (+ what Y or another matrix holds), on subgroup matrices
// The products of a linear layer and of its gradient, with LoRA's second product on the way: R = Wᵀ and V = Bᵀ forward
// (TRANSPOSED), R = W and V = A backward. LoRA's first products are X·Aᵀ and dY·B, where R is f32 (R_IS_F32).
// f16 factors, f32 sums.
// X: (M, K) f16, rows times a power of two; f: (M) f32, its inverse (elementwise/pack_rows).
// W: (N, K) f16 or f32 for TRANSPOSED, else (K, N). U: (M, RANK) f32. B: (N, RANK) or A: (RANK, N) f32, only where RANK > 0.
// Y: (M, N) f32, columns from first_column on of rows of y_stride. Rows are padded with zeros to a multiple of 8 elements,
// matrices to a multiple of 8 rows. Every element of Y in those columns is written.
// prior: what is added is nothing (0), Y itself (1), Y times addend, one for each row (2), or addend, which is like Y (3).
// A workgroup computes TILE_M × TILE_N elements, SUBGROUPS_M × SUBGROUPS_N subgroups a part of FRAGMENTS_M × FRAGMENTS_N
// subgroup matrices each; both factors go through workgroup memory in steps of STEP along K, and while the matrices are
// multiplied the next step's loads are under way. src/ops/fragments.ts unrolls what is in registers: it declares the sizes,
// Groups, Sums and the functions load_step, load_step_of_lora, stage, multiply and store_sums.
// Dispatch: (ceil(N / TILE_N), ceil(M / TILE_M)). Reference: test/reference/matmul.ts

override TRANSPOSED: bool;
override R_IS_F32: bool;
override WHOLE_STEPS: bool; // K is a multiple of STEP

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
  prior: u32,
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

const STEP_GROUPS = STEP / 8u;
// LoRA's factors are made larger by this, exactly: early in training B is so small that f16 would cut its digits.
const LORA_SCALE = 1024.0;
// Rows of tiles that are computed together, column by column: what they read of both factors stays in the cache.
const BAND = 16u;

/** Where a workgroup's tile begins. */
struct Place {
  row: u32,
  column_group: u32, // of 8
}

fn place_of(group: vec3u, groups: vec3u) -> Place {
  let index = group.y * groups.x + group.x;
  let first = index / (BAND * groups.x) * BAND;
  let height = min(BAND, groups.y - first);
  let in_band = index - first * groups.x;
  return Place((first + in_band % height) * TILE_M, in_band / height * (TILE_N / 8u));
}

// Group i of the left tile: row i / LEFT_LINE. What is past K meets zeros of R.
fn load_left(place: Place, step: u32, i: u32) -> vec4u {
  let row = min(place.row + i / LEFT_LINE, count.x - 1u);
  return x[row * sizes.x_stride + sizes.x_first + in_sum(step * STEP_GROUPS + i % LEFT_LINE, sizes.k_groups)];
}

// Groups of R lie along K where it is transposed, else along N.
fn load_right(place: Place, step: u32, i: u32) -> vec4u {
  var at: u32;
  var inside: bool;
  if (TRANSPOSED) {
    let row = min(8u * place.column_group + i / RIGHT_LINE, 8u * sizes.n_groups - 1u);
    let k = step * STEP_GROUPS + i % RIGHT_LINE;
    at = row * sizes.k_groups + in_sum(k, sizes.k_groups);
    inside = k < sizes.k_groups;
  } else {
    let k = step * STEP + i / RIGHT_LINE;
    let n = min(place.column_group + i % RIGHT_LINE, sizes.n_groups - 1u);
    at = in_sum(k, 8u * sizes.k_groups) * sizes.n_groups + n;
    inside = k < 8u * sizes.k_groups;
  }
  var eight: vec4u;
  if (R_IS_F32) {
    eight = pack_f16(bitcast<vec4f>(w[2u * at]) * LORA_SCALE, bitcast<vec4f>(w[2u * at + 1u]) * LORA_SCALE);
  } else {
    eight = w[at];
  }
  return select(vec4u(), eight, WHOLE_STEPS || inside);
}

fn in_sum(k: u32, end: u32) -> u32 {
  return select(min(k, end - 1u), k, WHOLE_STEPS);
}

// The same of U, whose rows take the factors of X's, and lose V's, so that both products have one sum.
fn load_left_of_lora(place: Place, step: u32, i: u32) -> vec4u {
  let row = min(place.row + i / LEFT_LINE, count.x - 1u);
  let k = step * STEP_GROUPS + i % LEFT_LINE;
  let at = 2u * (row * sizes.rank_groups + min(k, sizes.rank_groups - 1u));
  let scale = 1.0 / (sizes.scale * LORA_SCALE * factor[row]);
  return select(vec4u(), pack_f16(u[at] * scale, u[at + 1u] * scale), k < sizes.rank_groups);
}

fn load_right_of_lora(place: Place, step: u32, i: u32) -> vec4u {
  var at: u32;
  var inside: bool;
  if (TRANSPOSED) {
    let row = min(8u * place.column_group + i / RIGHT_LINE, 8u * sizes.n_groups - 1u);
    let k = step * STEP_GROUPS + i % RIGHT_LINE;
    at = row * sizes.rank_groups + min(k, sizes.rank_groups - 1u);
    inside = k < sizes.rank_groups;
  } else {
    let k = step * STEP + i / RIGHT_LINE;
    let n = min(place.column_group + i % RIGHT_LINE, sizes.n_groups - 1u);
    at = min(k, 8u * sizes.rank_groups - 1u) * sizes.n_groups + n;
    inside = k < 8u * sizes.rank_groups;
  }
  return select(vec4u(), pack_f16(v[2u * at] * LORA_SCALE, v[2u * at + 1u] * LORA_SCALE), inside);
}

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let place = place_of(group, groups);
  let subgroup = thread / SUBGROUP_SIZE;
  let subgroup_row = subgroup / SUBGROUPS_N;
  let subgroup_column = subgroup % SUBGROUPS_N;

  var sums = Sums();
  let steps = (sizes.k_groups + STEP_GROUPS - 1u) / STEP_GROUPS;
  let all_steps = steps + (sizes.rank_groups + STEP_GROUPS - 1u) / STEP_GROUPS;
  var groups_of_step = load_step(place, 0u, thread);
  for (var step = 0u; step < all_steps; step++) {
    workgroupBarrier(); // the tiles of the step before have been multiplied
    stage(groups_of_step, thread);
    workgroupBarrier(); // the tiles of this step are whole
    let next = step + 1u;
    if (next < steps) {
      groups_of_step = load_step(place, next, thread);
    } else if (next < all_steps) {
      groups_of_step = load_step_of_lora(place, next - steps, thread);
    }
    multiply(&sums, subgroup_row, subgroup_column);
  }

  // The sums leave through workgroup memory, a row of subgroup matrices at a time: there they can be scaled and added to,
  // and what lies past the end is dropped.
  let scale = select(sizes.scale, sizes.scale / LORA_SCALE, R_IS_F32);
  let lane = thread % SUBGROUP_SIZE;
  let part_row = place.row + subgroup_row * FRAGMENTS_M * MATRIX_M;
  let part_column = 2u * place.column_group + subgroup_column * PART_N_VECS;
  for (var i = 0u; i < FRAGMENTS_M; i++) {
    workgroupBarrier(); // the last tiles have been multiplied, or the row of matrices before has left
    store_sums(&sums, i, subgroup);
    workgroupBarrier(); // this row is whole
    for (var j = lane; j < MATRIX_M * PART_N_VECS; j += SUBGROUP_SIZE) {
      let row = part_row + i * MATRIX_M + j / PART_N_VECS;
      let column = part_column + j % PART_N_VECS;
      if (row < count.x && column < 2u * sizes.n_groups) {
        let at = (subgroup * MATRIX_M + j / PART_N_VECS) * SUM_STRIDE + j % PART_N_VECS;
        let sum = bitcast<vec4f>(tiles[at]) * (scale * factor[row]);
        let to = row * sizes.y_stride + sizes.first_column + column;
        switch sizes.prior {
          case 1u: { y[to] += sum; }
          case 2u: { y[to] = y[to] * addend[row / 4u][row % 4u] + sum; }
          case 3u: { y[to] = addend[to] + sum; }
          default: { y[to] = sum; }
        }
      }
    }
  }
}
