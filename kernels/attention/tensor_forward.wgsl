// attention/tensor_forward: attention/forward on subgroup matrices, f16 factors and f32 sums, block by block
// q, o: (T, QUERY_HEADS · D) f32, rows of QUERY_STRIDE vec4.  k, v: (keys, KEY_HEADS · D) f32, rows of KEY_STRIDE vec4.
// D is a multiple of 8. GROUP, visible and stats are attention/forward's. Every element of o and every .x is written.
// Two passes over the keys (Milakov and Gimelshein 2018, algorithm 2): the first finds each row's logsumexp, the second
// adds up exp(s − logsumexp) · v. The scores are computed twice, but the sums, which WGSL cannot scale row by row, never
// have to be rescaled.
// One workgroup for up to ROWS queries of a pair and a head, those of row_tiles[group.x]; blocks of COLUMNS keys that none of
// them sees are skipped. Tiles and blocks begin at the pair's first row, so that a pair's numbers are the same to the bit
// wherever it lies in a batch. The front of this file is written by src/ops/attention-tiles.ts.
// Dispatch: (tiles, QUERY_HEADS). Reference: test/reference/attention.ts

override QUERY_STRIDE: u32;
override KEY_STRIDE: u32;
override QUERY_HEADS: u32;
override GROUP: u32;
override SCALE: f32;

@group(0) @binding(0) var<storage, read> row_tiles: array<vec2u>; // first row, and the one past the last
@group(0) @binding(1) var<storage, read> visible: array<vec4u>;
@group(0) @binding(2) var<storage, read> q: array<vec4f>;
@group(0) @binding(3) var<storage, read> k: array<vec4f>;
@group(0) @binding(4) var<storage, read> v: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> o: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> stats: array<vec2f>;

const Q_TILE = ROW_TILE;
const KEY_TILE = COLUMN_TILE; // k, and in the second pass v after it

var<workgroup> parts_of_rows: array<vec2f, THREADS>;

fn load_q(first: u32, end: u32, head: u32, thread: u32) {
  for (var i = thread; i < ROW_CELLS; i += THREADS) {
    let c = cell(i, first, end, QUERY_STRIDE, head);
    tiles[Q_TILE + c.to] = select(vec4u(), pack_f16(q[c.at], q[c.at + 1u]), c.inside);
  }
}

fn load_k(first: u32, end: u32, head: u32, thread: u32) {
  for (var i = thread; i < COLUMN_CELLS; i += THREADS) {
    let c = cell(i, first, end, KEY_STRIDE, head);
    tiles[KEY_TILE + c.to] = select(vec4u(), pack_f16(k[c.at], k[c.at + 1u]), c.inside);
  }
}

fn load_v(first: u32, end: u32, head: u32, thread: u32) {
  for (var i = thread; i < COLUMN_CELLS; i += THREADS) {
    let c = cell(i, first, end, KEY_STRIDE, head);
    tiles[KEY_TILE + c.to] = select(vec4u(), pack_f16(v[c.at], v[c.at + 1u]), c.inside);
  }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let first_row = row_tiles[group.x].x;
  let end_row = row_tiles[group.x].y;
  let head = group.y;
  let key_head = head / GROUP;
  let subgroup = thread / SUBGROUP_SIZE;

  // The invocations of a row, and its mask.
  let row = thread / LANES_PER_ROW;
  let part = thread % LANES_PER_ROW;
  let range = select(vec4u(), visible[min(first_row + row, end_row - 1u)], first_row + row < end_row);
  let seen = hull(first_row, end_row);

  load_q(first_row, end_row, head, thread);

  var m = LOWEST; // of this invocation's part of the row: the largest score so far,
  var l = 0.0;    // and Σ exp(s − m)
  for (var first = seen.begin; first < seen.end; first += COLUMNS) {
    if (!is_seen(seen, first)) {
      continue;
    }
    workgroupBarrier(); // q is whole, and the block before has been multiplied
    load_k(first, seen.end, key_head, thread);
    workgroupBarrier(); // the block is whole, and the scores before have been read
    scores(Q_TILE, KEY_TILE, 0u, subgroup);
    workgroupBarrier(); // the scores are whole
    for (var i = part; i < COLUMNS / 4u; i += LANES_PER_ROW) {
      let key = vec4u(first + 4u * i) + vec4u(0u, 1u, 2u, 3u);
      let s = select(vec4f(LOWEST), score_tiles[row * SCORE_STRIDE + i] * SCALE, sees(range, key));
      let m_new = max(max(m, max(s.x, s.y)), max(s.z, s.w));
      let p = exp(s - m_new);
      l = l * exp(m - m_new) + p.x + p.y + p.z + p.w;
      m = m_new;
    }
  }
  // A part that saw no key has m = LOWEST, which takes its l away.
  parts_of_rows[thread] = vec2f(m, l);
  workgroupBarrier(); // all parts are there
  var row_m = LOWEST;
  for (var i = 0u; i < LANES_PER_ROW; i++) {
    row_m = max(row_m, parts_of_rows[row * LANES_PER_ROW + i].x);
  }
  var row_l = 0.0;
  for (var i = 0u; i < LANES_PER_ROW; i++) {
    let other = parts_of_rows[row * LANES_PER_ROW + i];
    row_l += other.y * exp(other.x - row_m);
  }
  let logsumexp = row_m + log(row_l);
  if (part == 0u && first_row + row < end_row) {
    stats[(first_row + row) * QUERY_HEADS + head].x = logsumexp;
  }

  var sums = Sums();
  for (var first = seen.begin; first < seen.end; first += COLUMNS) {
    if (!is_seen(seen, first)) {
      continue;
    }
    workgroupBarrier(); // the block before has been multiplied
    load_k(first, seen.end, key_head, thread);
    workgroupBarrier(); // k is whole
    scores(Q_TILE, KEY_TILE, 0u, subgroup);
    workgroupBarrier(); // the scores are whole, and k has been multiplied
    for (var i = part; i < COLUMNS / 8u; i += LANES_PER_ROW) {
      let at = row * SCORE_STRIDE + 2u * i;
      let key = vec4u(first + 8u * i) + vec4u(0u, 1u, 2u, 3u);
      let low = select(vec4f(), exp(score_tiles[at] * SCALE - logsumexp), sees(range, key));
      let high = select(vec4f(), exp(score_tiles[at + 1u] * SCALE - logsumexp), sees(range, key + 4u));
      tiles[WEIGHT_TILE + row * WEIGHT_STRIDE + i] = pack_f16(low, high);
    }
    load_v(first, seen.end, key_head, thread);
    workgroupBarrier(); // weights and v are whole
    accumulate(&sums, WEIGHT_TILE, KEY_TILE, subgroup);
  }

  for (var p = 0u; p < PARTS; p++) {
    workgroupBarrier(); // the part before has left
    store_part(&sums, p, subgroup);
    workgroupBarrier(); // this part is whole
    for (var i = thread; i < ROWS * COLUMNS / 4u; i += THREADS) {
      let c = part_cell(i, p, first_row, end_row, QUERY_STRIDE, head);
      if (c.inside) {
        o[c.at] = score_tiles[c.to];
      }
    }
  }
}
