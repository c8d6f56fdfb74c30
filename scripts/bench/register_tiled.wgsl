// register_tiled: C = A·B, the plain kernel that `npm run bench` measures ours against
// A: (M, K), B: (K, N), C: (M, N), all f32 and row-major: the layout that suits this kernel best. M, K and N are multiples
// of 8. One invocation keeps a tile of C of 4 rows by 4 columns in registers: 8 rows where TALL, 8 columns where WIDE.
// A workgroup is 8 x 8 tiles; no workgroup memory, so neighbours share their loads through the cache.
// Dispatch: (ceil(N / columns of a tile / 8), ceil(M / rows of a tile / 8)). Reference: test/reference/matmul.ts

override TALL: bool;
override WIDE: bool;

@group(0) @binding(0) var<uniform> sizes: vec4u; // M, N, K
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> b: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> c: array<vec4f>;

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let row = id.y * select(4u, 8u, TALL);
  let column = id.x * select(1u, 2u, WIDE); // in vec4
  let columns = sizes.y / 4u;
  if (row >= sizes.x || column >= columns) {
    return;
  }
  let steps = sizes.z / 4u; // along K
  var left_0 = vec4f();
  var left_1 = vec4f();
  var left_2 = vec4f();
  var left_3 = vec4f();
  var left_4 = vec4f();
  var left_5 = vec4f();
  var left_6 = vec4f();
  var left_7 = vec4f();
  var right_0 = vec4f();
  var right_1 = vec4f();
  var right_2 = vec4f();
  var right_3 = vec4f();
  var right_4 = vec4f();
  var right_5 = vec4f();
  var right_6 = vec4f();
  var right_7 = vec4f();
  for (var k = 0u; k < steps; k++) {
    let a_at = row * steps + k;
    let a_0 = a[a_at];
    let a_1 = a[a_at + steps];
    let a_2 = a[a_at + 2u * steps];
    let a_3 = a[a_at + 3u * steps];
    let b_at = 4u * k * columns + column;
    let b_left = mat4x4f(b[b_at], b[b_at + columns], b[b_at + 2u * columns], b[b_at + 3u * columns]);
    left_0 += b_left * a_0;
    left_1 += b_left * a_1;
    left_2 += b_left * a_2;
    left_3 += b_left * a_3;
    if (WIDE) {
      let b_right = mat4x4f(b[b_at + 1u], b[b_at + columns + 1u], b[b_at + 2u * columns + 1u], b[b_at + 3u * columns + 1u]);
      right_0 += b_right * a_0;
      right_1 += b_right * a_1;
      right_2 += b_right * a_2;
      right_3 += b_right * a_3;
    }
    if (TALL) {
      let a_4 = a[a_at + 4u * steps];
      let a_5 = a[a_at + 5u * steps];
      let a_6 = a[a_at + 6u * steps];
      let a_7 = a[a_at + 7u * steps];
      left_4 += b_left * a_4;
      left_5 += b_left * a_5;
      left_6 += b_left * a_6;
      left_7 += b_left * a_7;
      if (WIDE) {
        let b_right = mat4x4f(b[b_at + 1u], b[b_at + columns + 1u], b[b_at + 2u * columns + 1u], b[b_at + 3u * columns + 1u]);
        right_4 += b_right * a_4;
        right_5 += b_right * a_5;
        right_6 += b_right * a_6;
        right_7 += b_right * a_7;
      }
    }
  }
  let c_at = row * columns + column;
  c[c_at] = left_0;
  c[c_at + columns] = left_1;
  c[c_at + 2u * columns] = left_2;
  c[c_at + 3u * columns] = left_3;
  if (WIDE) {
    c[c_at + 1u] = right_0;
    c[c_at + columns + 1u] = right_1;
    c[c_at + 2u * columns + 1u] = right_2;
    c[c_at + 3u * columns + 1u] = right_3;
  }
  if (TALL) {
    c[c_at + 4u * columns] = left_4;
    c[c_at + 5u * columns] = left_5;
    c[c_at + 6u * columns] = left_6;
    c[c_at + 7u * columns] = left_7;
    if (WIDE) {
      c[c_at + 4u * columns + 1u] = right_4;
      c[c_at + 5u * columns + 1u] = right_5;
      c[c_at + 6u * columns + 1u] = right_6;
      c[c_at + 7u * columns + 1u] = right_7;
    }
  }
}
