// attention/tensor_backward_query: attention/backward_query on subgroup matrices, f16 factors and f32 sums
// dq = scale · Σ_j ds_j k_j,  ds = p · (do·v − δ),  p = exp(s − logsumexp)  (Dao et al. 2022, algorithm 4).
// Shapes as in attention/tensor_forward; stats = (logsumexp, δ). peaks = (largest |do|, largest |v|) as bits.
// do enters times a power of two, from which dq is freed at the end: see library/gradient_scale. dq: like q; every element
// is written.
// Tiles and blocks are those of attention/tensor_forward. Dispatch: (tiles, QUERY_HEADS).
// Reference: test/reference/attention.ts

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
@group(0) @binding(5) var<storage, read> stats: array<vec2f>;
@group(0) @binding(6) var<storage, read> d_o: array<vec4f>;
@group(0) @binding(7) var<storage, read> peaks: array<u32>;
@group(0) @binding(8) var<storage, read_write> dq: array<vec4f>;

const Q_TILE = ROW_TILE;
const DO_TILE = ROW_TILE + ROW_TILE_SIZE;
const K_TILE = COLUMN_TILE;
const V_TILE = COLUMN_TILE + COLUMN_TILE_SIZE;

fn load_queries(first: u32, end: u32, head: u32, gradient_scale: f32, thread: u32) {
  for (var i = thread; i < ROW_CELLS; i += THREADS) {
    let c = cell(i, first, end, QUERY_STRIDE, head);
    tiles[Q_TILE + c.to] = select(vec4u(), pack_f16(q[c.at], q[c.at + 1u]), c.inside);
    let scaled = pack_f16(d_o[c.at] * gradient_scale, d_o[c.at + 1u] * gradient_scale);
    tiles[DO_TILE + c.to] = select(vec4u(), scaled, c.inside);
  }
}

fn load_keys(first: u32, end: u32, head: u32, thread: u32) {
  for (var i = thread; i < COLUMN_CELLS; i += THREADS) {
    let c = cell(i, first, end, KEY_STRIDE, head);
    tiles[K_TILE + c.to] = select(vec4u(), pack_f16(k[c.at], k[c.at + 1u]), c.inside);
    tiles[V_TILE + c.to] = select(vec4u(), pack_f16(v[c.at], v[c.at + 1u]), c.inside);
  }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let first_row = row_tiles[group.x].x;
  let end_row = row_tiles[group.x].y;
  let head = group.y;
  let subgroup = thread / SUBGROUP_SIZE;

  // The invocations of a row, its mask, and what backward kept of it.
  let row = thread / LANES_PER_ROW;
  let part = thread % LANES_PER_ROW;
  let t = min(first_row + row, end_row - 1u);
  let range = select(vec4u(), visible[t], first_row + row < end_row);
  let logsumexp = stats[t * QUERY_HEADS + head].x;
  let scale = gradient_scale();
  let delta = stats[t * QUERY_HEADS + head].y * scale;
  let seen = hull(first_row, end_row);

  load_queries(first_row, end_row, head, scale, thread);
  var sums = Sums();
  for (var first = seen.begin; first < seen.end; first += COLUMNS) {
    if (!is_seen(seen, first)) {
      continue;
    }
    workgroupBarrier(); // the block before has been multiplied
    load_keys(first, seen.end, head / GROUP, thread);
    workgroupBarrier(); // the block is whole, as are q and do
    scores(Q_TILE, K_TILE, 0u, subgroup);
    scores(DO_TILE, V_TILE, SCORE_TILE_SIZE, subgroup);
    workgroupBarrier(); // both products are whole
    for (var i = part; i < COLUMNS / 8u; i += LANES_PER_ROW) {
      let at = row * SCORE_STRIDE + 2u * i;
      let key = vec4u(first + 8u * i) + vec4u(0u, 1u, 2u, 3u);
      let p_low = select(vec4f(), exp(score_tiles[at] * SCALE - logsumexp), sees(range, key));
      let p_high = select(vec4f(), exp(score_tiles[at + 1u] * SCALE - logsumexp), sees(range, key + 4u));
      let ds_low = p_low * (score_tiles[SCORE_TILE_SIZE + at] - delta);
      let ds_high = p_high * (score_tiles[SCORE_TILE_SIZE + at + 1u] - delta);
      tiles[WEIGHT_TILE + row * WEIGHT_STRIDE + i] = pack_f16(ds_low, ds_high);
    }
    workgroupBarrier(); // ds is whole
    accumulate(&sums, WEIGHT_TILE, K_TILE, subgroup);
  }

  for (var p = 0u; p < PARTS; p++) {
    workgroupBarrier(); // the part before has left
    store_part(&sums, p, subgroup);
    workgroupBarrier(); // this part is whole
    for (var i = thread; i < ROWS * COLUMNS / 4u; i += THREADS) {
      let c = part_cell(i, p, first_row, end_row, QUERY_STRIDE, head);
      if (c.inside) {
        dq[c.at] = score_tiles[c.to] * (SCALE / scale);
      }
    }
  }
}
