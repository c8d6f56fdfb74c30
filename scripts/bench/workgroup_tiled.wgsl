// workgroup_tiled: C = A·B as register_tiled.wgsl, with both operands staged in workgroup memory
// A workgroup of 16 x 16 invocations computes 64 x 64 elements of C, each invocation 4 x 4 of them in registers, 16 columns
// of A and rows of B at a time. M, K and N are multiples of 8; what lies past them is read as 0 and not stored.
// Dispatch: (ceil(N / 64), ceil(M / 64)). Reference: test/reference/matmul.ts

@group(0) @binding(0) var<uniform> sizes: vec4u; // M, N, K
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> b: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> c: array<vec4f>;

const STEP = 16u; // along K

var<workgroup> a_tile: array<vec4f, 64u * STEP / 4u>; // 64 rows of 4 vec4
var<workgroup> b_tile: array<vec4f, STEP * 64u / 4u>; // 16 rows of 16 vec4

@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u, @builtin(local_invocation_index) index: u32) {
  let rows = sizes.x;
  let columns = sizes.y / 4u;
  let a_columns = sizes.z / 4u;
  let first_row = group.y * 64u;
  let first_column = group.x * 16u; // in vec4
  // What this invocation stages of each tile: one vec4.
  let a_row = first_row + index / 4u;
  let b_column = first_column + index % 16u;

  var c_0 = vec4f();
  var c_1 = vec4f();
  var c_2 = vec4f();
  var c_3 = vec4f();
  for (var first = 0u; first < sizes.z; first += STEP) {
    let a_column = first / 4u + index % 4u;
    let b_row = first + index / 16u;
    var a_value = vec4f();
    if (a_row < rows && a_column < a_columns) {
      a_value = a[a_row * a_columns + a_column];
    }
    var b_value = vec4f();
    if (b_row < sizes.z && b_column < columns) {
      b_value = b[b_row * columns + b_column];
    }
    a_tile[index] = a_value;
    b_tile[index] = b_value;
    workgroupBarrier(); // both tiles are there
    for (var k = 0u; k < STEP / 4u; k++) {
      let at = 64u * k + local.x;
      let b_block = mat4x4f(b_tile[at], b_tile[at + 16u], b_tile[at + 32u], b_tile[at + 48u]);
      let a_at = 16u * local.y + k;
      c_0 += b_block * a_tile[a_at];
      c_1 += b_block * a_tile[a_at + 4u];
      c_2 += b_block * a_tile[a_at + 8u];
      c_3 += b_block * a_tile[a_at + 12u];
    }
    workgroupBarrier(); // everybody has read, so the tiles may be written again
  }
  let row = first_row + 4u * local.y;
  let column = first_column + local.x;
  if (row < rows && column < columns) {
    c[row * columns + column] = c_0;
    c[(row + 1u) * columns + column] = c_1;
    c[(row + 2u) * columns + column] = c_2;
    c[(row + 3u) * columns + column] = c_3;
  }
}
