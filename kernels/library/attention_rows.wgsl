// What a tile of queries sees: for the attention kernels on subgroup matrices, whose rows are queries. It reads `visible`, as
// attention/forward explains it.

const LANES_PER_ROW = THREADS / ROWS;
const LOWEST = -3.0e38;

/** Keys that at least one of the queries may see: [begin, end), less a gap between prompt and own answer. */
struct Hull {
  begin: u32,
  gap_begin: u32,
  gap_end: u32,
  end: u32,
}

fn hull(first_row: u32, end_row: u32) -> Hull {
  var prefix = vec2u(0xffffffffu, 0u);
  var own = vec2u(0xffffffffu, 0u);
  for (var t = first_row; t < end_row; t++) {
    let range = visible[t];
    if (range.x < range.y) {
      prefix = vec2u(min(prefix.x, range.x), max(prefix.y, range.y));
    }
    own = vec2u(min(own.x, range.z), max(own.y, range.w));
  }
  return Hull(min(prefix.x, own.x), min(prefix.y, own.x), own.x, max(prefix.y, own.y));
}

/** Whether the block of keys from `first` on has any of them. */
fn is_seen(seen: Hull, first: u32) -> bool {
  return first < max(seen.gap_begin, seen.begin) || first + COLUMNS > seen.gap_end;
}

fn sees(range: vec4u, key: vec4u) -> vec4<bool> {
  return ((key >= vec4u(range.x)) & (key < vec4u(range.y))) | ((key >= vec4u(range.z)) & (key < vec4u(range.w)));
}
