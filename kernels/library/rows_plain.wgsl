// row_vec: vec4 i of the rows that elementwise/pack_rows packs: those of a matrix x, (T, C) f32.

@group(0) @binding(2) var<storage, read> x: array<vec4f>;

fn row_vec(i: u32) -> vec4f {
  return x[i];
}
