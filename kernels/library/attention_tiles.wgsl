// Where the elements of a (rows, D) tile come from: for the attention kernels on subgroup matrices, which turn f32 rows into
// f16 tiles eight elements at a time.

struct Cell {
  at: u32,      // of the source, in vec4: the first of two
  to: u32,      // in the tile
  inside: bool, // else the cell is zero: past the head's elements, or a row that may hold anything, and 0 · NaN is not 0
}

/** Cell i of a tile whose rows are the rows [first, end) of a matrix with rows of `stride` vec4, for one head. */
fn cell(i: u32, first: u32, end: u32, stride: u32, head: u32) -> Cell {
  let row = i / PADDED_DIM_GROUPS;
  let group = i % PADDED_DIM_GROUPS;
  let at = min(first + row, end - 1u) * stride + 2u * (head * DIM_GROUPS + min(group, DIM_GROUPS - 1u));
  return Cell(at, row * TILE_STRIDE + group, first + row < end && group < DIM_GROUPS);
}

const ROW_CELLS = ROWS * PADDED_DIM_GROUPS;
const COLUMN_CELLS = COLUMNS * PADDED_DIM_GROUPS;

/** Vec4 i of part p of the result: where it lies in the first score tile (`to`), and in the rows [first, end) of a matrix. */
fn part_cell(i: u32, p: u32, first: u32, end: u32, stride: u32, head: u32) -> Cell {
  let row = i / (COLUMNS / 4u);
  let column = i % (COLUMNS / 4u);
  let d = p * (COLUMNS / 4u) + column;
  let at = (first + row) * stride + 2u * head * DIM_GROUPS + d;
  return Cell(at, row * SCORE_STRIDE + column, first + row < end && d < 2u * DIM_GROUPS);
}
