// matmul/tensor_tn: Y += Pᵀ·Q on subgroup matrices, the gradient of a LoRA factor: dYᵀ·U or dUᵀ·X. f16 factors, f32 sums.
// One of P (T, I) and Q (T, J) is wide: f16, rows times a power of two, factor: (T) f32, its inverse (elementwise/pack_rows).
// The other is narrow: f32, (T, r), the left one where NARROW_IS_LEFT. It becomes f16 on its way, each row times the factor
// of the wide one's and all times one power of two, so that the products have one sum. peak: the bits of the largest of
// factor · |narrow| (elementwise/peak).
// T is cut into slices, one for each group.z. Y: (I, J) f32; with one slice (IS_WHOLE) added to, else (slices, I, J), of
// which every element is written, for matmul/add_slices. Rows are padded with zeros to a multiple of 8 elements, matrices to
// a multiple of 8 rows.
// Tiles and unrolling are those of matmul/tensor. Dispatch: (ceil(J / TILE_N), ceil(I / TILE_M), slices).
// Reference: test/reference/matmul.ts

override NARROW_IS_LEFT: bool;
override IS_WHOLE: bool;

struct Sizes {
  i_groups: u32, // I / 8
  j_groups: u32, // J / 8
}

@group(0) @binding(0) var<uniform> count: vec4u; // x: T
@group(0) @binding(1) var<uniform> sizes: Sizes;
@group(0) @binding(2) var<storage, read> wide: array<vec4u>;
@group(0) @binding(3) var<storage, read> factor: array<f32>;
@group(0) @binding(4) var<storage, read> narrow: array<vec4f>;
@group(0) @binding(5) var<storage, read> peak: u32;
@group(0) @binding(6) var<storage, read_write> y: array<vec4f>;

// Of the narrow factor's largest element: far above f16's smallest, so that rows with small factors keep digits too.
const PEAK_EXPONENT = 14;

// Slices begin at multiples of this, which is one of every STEP: so a sum is the same in every shape.
const SLICE_UNIT = 128u;

/** Where a workgroup's tile begins, and its slice of T. */
struct Place {
  i_group: u32, // of 8
  j_group: u32,
  first: u32,
  end: u32,
  scale: f32,
}

// Group i of the left tile: row i / LEFT_LINE of P in the step.
fn load_left(place: Place, step: u32, i: u32) -> vec4u {
  return load(place, NARROW_IS_LEFT, step * STEP + i / LEFT_LINE, place.i_group + i % LEFT_LINE, sizes.i_groups);
}

fn load_right(place: Place, step: u32, i: u32) -> vec4u {
  return load(place, !NARROW_IS_LEFT, step * STEP + i / RIGHT_LINE, place.j_group + i % RIGHT_LINE, sizes.j_groups);
}

// Past the slice's end the narrow factor is zero, and the wide one any row of the batch.
fn load(place: Place, is_narrow: bool, t: u32, column: u32, columns: u32) -> vec4u {
  let row = min(place.first + t, count.x - 1u);
  let at = row * columns + min(column, columns - 1u);
  if (is_narrow) {
    let scale = min(factor[row] * place.scale, 0x1p127f); // infinity · 0 is not 0
    return select(vec4u(), pack_f16(narrow[2u * at] * scale, narrow[2u * at + 1u] * scale), place.first + t < place.end);
  }
  return wide[at];
}

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let subgroup = thread / SUBGROUP_SIZE;
  let subgroup_row = subgroup / SUBGROUPS_N;
  let subgroup_column = subgroup % SUBGROUPS_N;
  let slice_rows = (count.x + groups.z * SLICE_UNIT - 1u) / (groups.z * SLICE_UNIT) * SLICE_UNIT;
  let first = min(group.z * slice_rows, count.x);
  let end = min(first + slice_rows, count.x);
  let scale = peak_scale(peak, PEAK_EXPONENT);
  let place = Place(group.y * (TILE_M / 8u), group.x * (TILE_N / 8u), first, end, scale);

  var sums = Sums();
  let steps = (end - first + STEP - 1u) / STEP;
  var groups_of_step = load_step(place, 0u, thread);
  for (var step = 0u; step < steps; step++) {
    workgroupBarrier(); // the tiles of the step before have been multiplied
    stage(groups_of_step, thread);
    workgroupBarrier(); // the tiles of this step are whole
    if (step + 1u < steps) {
      groups_of_step = load_step(place, step + 1u, thread);
    }
    multiply(&sums, subgroup_row, subgroup_column);
  }

  // The sums leave as in matmul/tensor.
  let lane = thread % SUBGROUP_SIZE;
  let part_row = 8u * place.i_group + subgroup_row * FRAGMENTS_M * MATRIX_M;
  let part_column = 2u * place.j_group + subgroup_column * PART_N_VECS;
  let inverse_scale = bitcast<f32>((254u << 23u) - bitcast<u32>(scale)); // exact, as 1 / scale need not be
  let slice_start = group.z * 8u * sizes.i_groups * 2u * sizes.j_groups;
  for (var i = 0u; i < FRAGMENTS_M; i++) {
    workgroupBarrier(); // the last tiles have been multiplied, or the row of matrices before has left
    store_sums(&sums, i, subgroup);
    workgroupBarrier(); // this row is whole
    for (var j = lane; j < MATRIX_M * PART_N_VECS; j += SUBGROUP_SIZE) {
      let row = part_row + i * MATRIX_M + j / PART_N_VECS;
      let column = part_column + j % PART_N_VECS;
      if (row < 8u * sizes.i_groups && column < 2u * sizes.j_groups) {
        let at = (subgroup * MATRIX_M + j / PART_N_VECS) * SUM_STRIDE + j % PART_N_VECS;
        let sum = bitcast<vec4f>(tiles[at]) * inverse_scale;
        let to = row * 2u * sizes.j_groups + column;
        if (IS_WHOLE) {
          y[to] += sum;
        } else {
          y[slice_start + to] = sum;
        }
      }
    }
  }
}
