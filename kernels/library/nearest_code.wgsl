// nearest: the byte whose code is nearest to x, by bisection among the 256 ascending codes that begin at `first`.
// Halfway between two codes the even byte is taken, as in bitsandbytes' CUDA kernels. `code` is the kernel's binding.

fn nearest(first: u32, x: f32) -> u32 {
  var below = 0u; // the last code that is ≤ x, or the first of all
  for (var span = 128u; span > 0u; span >>= 1u) {
    if (code[first + below + span] <= x) {
      below += span;
    }
  }
  let above = min(below + 1u, 255u);
  let halfway = 0.5 * (code[first + below] + code[first + above]);
  return select(below, above, x > halfway || (x == halfway && above % 2u == 0u));
}
