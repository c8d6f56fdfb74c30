// elementwise/embedding: x[t] = W[token[t]], for the tokens whose row lies in this part of the table
// tokens: (T) u32.  W: rows FIRST_ROW to FIRST_ROW + ROWS of the table, bf16 packed two to a u32, or f32, C padded with
// zeros to GROUPS · 8 elements.  x: (T, C) f32, padded likewise. A table over the binding limit comes in parts, one
// dispatch each; a row of x is written by the part that holds its token.
// One invocation per 8 elements. Dispatch: (ceil(GROUPS / 64), T). Reference: test/reference/embedding.ts

override GROUPS: u32;
override FIRST_ROW: u32;
override ROWS: u32;
override W_IS_F32: bool;

@group(0) @binding(0) var<storage, read> tokens: array<u32>;
@group(0) @binding(1) var<storage, read> w: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> x: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let token = tokens[id.y];
  if (id.x >= GROUPS || token < FIRST_ROW || token >= FIRST_ROW + ROWS) {
    return;
  }
  let source = (token - FIRST_ROW) * GROUPS + id.x;
  let to = (id.y * GROUPS + id.x) * 2u;
  if (W_IS_F32) {
    x[to] = bitcast<vec4f>(w[2u * source]);
    x[to + 1u] = bitcast<vec4f>(w[2u * source + 1u]);
  } else {
    x[to] = widen_low(w[source]);
    x[to + 1u] = widen_high(w[source]);
  }
}
