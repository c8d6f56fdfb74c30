// matmul/add_slices: Y += Σ partial[s], the slices of matmul/tensor_tn, in their order
// partial: (slices, N) f32. Y: (N) f32, N a multiple of 4.
// One vec4 for each invocation. Dispatch: (ceil(N / 4 / 64)). Reference: test/reference/matmul.ts

struct Sizes {
  vecs: u32, // N / 4
  slices: u32,
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> partial: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= sizes.vecs) {
    return;
  }
  var sum = partial[id.x];
  for (var slice = 1u; slice < sizes.slices; slice++) {
    sum += partial[slice * sizes.vecs + id.x];
  }
  y[id.x] += sum;
}
