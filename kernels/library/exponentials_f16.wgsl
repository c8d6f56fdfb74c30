// keep_exponential: exp(logit − m), which is 1 at most, as the left factor of a product on subgroup matrices: f16, times
// 2^14, so that a token of probability 2^-28 keeps its digits too. For head/chunk, which declares CHUNK_STRIDE.

@group(0) @binding(7) var<storage, read_write> exponentials: array<f16>;

fn keep_exponential(row: u32, column: u32, exponential: f32) {
  exponentials[row * CHUNK_STRIDE + column] = f16(exponential * 16384.0);
}

fn keep_padding(row: u32, column: u32) {
  exponentials[row * CHUNK_STRIDE + column] = 0.0h;
}
