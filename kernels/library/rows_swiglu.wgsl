// row_vec: vec4 i of the rows that elementwise/pack_rows packs: silu(gate) · up, as elementwise/swiglu_forward has it. It is
// computed twice, for the row's largest element and for the row, and never written in f32. gate, up: (T, I) f32.

@group(0) @binding(2) var<storage, read> gate: array<vec4f>;
@group(0) @binding(3) var<storage, read> up: array<vec4f>;

fn row_vec(i: u32) -> vec4f {
  let g = gate[i];
  return g * sigmoid(g) * up[i];
}
