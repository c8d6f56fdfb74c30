// elementwise/scatter_rows: y[rows[r]] = x[r]
// x: (R, C) f32 and y: (T, C) f32, rows of ROW_VECS vec4.  rows: (R) u32, no row twice. Rows of y not named are left alone.
// One invocation per vec4. Dispatch: (ceil(ROW_VECS / 64), R). Reference: test/reference/rows.ts

override ROW_VECS: u32;

@group(0) @binding(0) var<storage, read> rows: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < ROW_VECS) {
    y[rows[id.y] * ROW_VECS + id.x] = x[id.y * ROW_VECS + id.x];
  }
}
