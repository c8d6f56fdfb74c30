// attention/tensor_backward_key: attention/backward_key on subgroup matrices, f16 factors and f32 sums
// dv = Σ_t p_t do_t,  dk = scale · Σ_t ds_t q_t, over the queries that see the key and the query heads that share it
// (Dao et al. 2022, algorithm 4). p, ds, shapes, stats and peaks as in attention/tensor_backward_query; query_end as in
// attention/backward_key. dk, dv: like k and v; every element is written.
// One workgroup for up to ROWS keys of a pair and a key head, over blocks of COLUMNS queries: the scores lie transposed, keys
// along rows. Tiles as in attention/tensor_forward. Dispatch: (tiles, KEY_HEADS). Reference: test/reference/attention.ts

override QUERY_STRIDE: u32;
override KEY_STRIDE: u32;
override QUERY_HEADS: u32;
override GROUP: u32;
override SCALE: f32;

@group(0) @binding(0) var<storage, read> row_tiles: array<vec2u>; // first row, and the one past the last
@group(0) @binding(1) var<storage, read> query_end: array<u32>;
@group(0) @binding(2) var<storage, read> q: array<vec4f>;
@group(0) @binding(3) var<storage, read> k: array<vec4f>;
@group(0) @binding(4) var<storage, read> v: array<vec4f>;
@group(0) @binding(5) var<storage, read> stats: array<vec2f>;
@group(0) @binding(6) var<storage, read> d_o: array<vec4f>;
@group(0) @binding(7) var<storage, read> peaks: array<u32>;
@group(0) @binding(8) var<storage, read_write> dk: array<vec4f>;
@group(0) @binding(9) var<storage, read_write> dv: array<vec4f>;

const K_TILE = ROW_TILE;
const V_TILE = ROW_TILE + ROW_TILE_SIZE;
const Q_TILE = COLUMN_TILE;
const DO_TILE = COLUMN_TILE + COLUMN_TILE_SIZE;
const P_TILE = WEIGHT_TILE;
const DS_TILE = WEIGHT_TILE + WEIGHT_TILE_SIZE;

const LANES_PER_ROW = THREADS / ROWS;

/** (logsumexp, δ) of the block's queries. */
var<workgroup> query_stats: array<vec2f, COLUMNS>;

fn load_keys(first: u32, end: u32, head: u32, thread: u32) {
  for (var i = thread; i < ROW_CELLS; i += THREADS) {
    let c = cell(i, first, end, KEY_STRIDE, head);
    tiles[K_TILE + c.to] = select(vec4u(), pack_f16(k[c.at], k[c.at + 1u]), c.inside);
    tiles[V_TILE + c.to] = select(vec4u(), pack_f16(v[c.at], v[c.at + 1u]), c.inside);
  }
}

fn load_queries(first: u32, end: u32, head: u32, gradient_scale: f32, thread: u32) {
  for (var i = thread; i < COLUMN_CELLS; i += THREADS) {
    let c = cell(i, first, end, QUERY_STRIDE, head);
    tiles[Q_TILE + c.to] = select(vec4u(), pack_f16(q[c.at], q[c.at + 1u]), c.inside);
    let scaled = pack_f16(d_o[c.at] * gradient_scale, d_o[c.at + 1u] * gradient_scale);
    tiles[DO_TILE + c.to] = select(vec4u(), scaled, c.inside);
  }
  for (var i = thread; i < COLUMNS; i += THREADS) {
    let stat = stats[min(first + i, end - 1u) * QUERY_HEADS + head];
    query_stats[i] = vec2f(stat.x, stat.y * gradient_scale);
  }
}

/** p and ds of four queries from `first` on, for the key j with queries up to `end`. */
fn weights(at: u32, first: u32, i: u32, j: u32, end: u32) -> array<vec4f, 2> {
  let a = query_stats[i];
  let b = query_stats[i + 1u];
  let c = query_stats[i + 2u];
  let d = query_stats[i + 3u];
  let t = vec4u(first + i) + vec4u(0u, 1u, 2u, 3u);
  let is_seen = (t >= vec4u(j)) & (t < vec4u(end));
  let p = select(vec4f(), exp(score_tiles[at] * SCALE - vec4f(a.x, b.x, c.x, d.x)), is_seen);
  return array(p, p * (score_tiles[SCORE_TILE_SIZE + at] - vec4f(a.y, b.y, c.y, d.y)));
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let first_row = row_tiles[group.x].x;
  let end_row = row_tiles[group.x].y;
  let key_head = group.y;
  let subgroup = thread / SUBGROUP_SIZE;
  let row = thread / LANES_PER_ROW;
  let part = thread % LANES_PER_ROW;
  let j = first_row + row;
  let queries_end = select(0u, query_end[min(j, end_row - 1u)], j < end_row);
  let scale = gradient_scale();
  var end = 0u;
  for (var i = first_row; i < end_row; i++) {
    end = max(end, query_end[i]);
  }

  load_keys(first_row, end_row, key_head, thread);
  var dk_sums = Sums();
  var dv_sums = Sums();
  for (var head = key_head * GROUP; head < (key_head + 1u) * GROUP; head++) {
    for (var first = first_row; first < end; first += COLUMNS) {
      workgroupBarrier(); // the block before has been multiplied
      load_queries(first, end, head, scale, thread);
      workgroupBarrier(); // the block is whole, as are k and v
      scores(K_TILE, Q_TILE, 0u, subgroup);
      scores(V_TILE, DO_TILE, SCORE_TILE_SIZE, subgroup);
      workgroupBarrier(); // both products are whole
      for (var i = part; i < COLUMNS / 8u; i += LANES_PER_ROW) {
        let at = row * SCORE_STRIDE + 2u * i;
        let low = weights(at, first, 8u * i, j, queries_end);
        let high = weights(at + 1u, first, 8u * i + 4u, j, queries_end);
        tiles[P_TILE + row * WEIGHT_STRIDE + i] = pack_f16(low[0], high[0]);
        tiles[DS_TILE + row * WEIGHT_STRIDE + i] = pack_f16(low[1], high[1]);
      }
      workgroupBarrier(); // p and ds are whole
      accumulate(&dv_sums, P_TILE, DO_TILE, subgroup);
      accumulate(&dk_sums, DS_TILE, Q_TILE, subgroup);
    }
  }

  for (var p = 0u; p < PARTS; p++) {
    workgroupBarrier(); // the part before has left
    store_part(&dk_sums, p, subgroup);
    workgroupBarrier(); // this part of dk is whole
    for (var i = thread; i < ROWS * COLUMNS / 4u; i += THREADS) {
      let c = part_cell(i, p, first_row, end_row, KEY_STRIDE, key_head);
      if (c.inside) {
        dk[c.at] = score_tiles[c.to] * (SCALE / scale);
      }
    }
    workgroupBarrier(); // it has left
    store_part(&dv_sums, p, subgroup);
    workgroupBarrier(); // this part of dv is whole
    for (var i = thread; i < ROWS * COLUMNS / 4u; i += THREADS) {
      let c = part_cell(i, p, first_row, end_row, KEY_STRIDE, key_head);
      if (c.inside) {
        dv[c.at] = score_tiles[c.to] / scale;
      }
    }
  }
}
