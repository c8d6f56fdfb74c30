// keep_exponential: exp(logit − m) in the logit's place. For head/chunk, which declares logits.

fn keep_exponential(row: u32, column: u32, exponential: f32) {
  logits[row * CHUNK_STRIDE + column] = exponential;
}

fn keep_padding(_row: u32, _column: u32) {} // The logits' padding is zero already.
