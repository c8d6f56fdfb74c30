// optimizer/clip: the global gradient norm, and by how much to scale the gradients:
//   norm = sqrt(Σ partials),  scale = min(1, max_norm / (norm + 1e-6))      (torch.nn.utils.clip_grad_norm_)
// clip = (norm, scale, finite, 0). Where the norm is not finite, finite is 0 and the update kernels leave everything as it is.
// step.max_norm ≤ 0 means no clipping. One workgroup. Dispatch: (1). Reference: test/reference/optimizer.ts

override PARTIALS: u32;

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> clip: vec4f;

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
  var share = 0.0;
  for (var i = lane; i < PARTIALS; i += LANES) {
    share += partials[i];
  }
  let norm = sqrt(workgroup_sum(share, lane));
  if (lane == 0u) {
    // Comparisons with NaN may be folded away: look at the exponent bits.
    let finite = (bitcast<u32>(norm) & 0x7f800000u) != 0x7f800000u;
    let scale = select(1.0, min(1.0, step.max_norm / (norm + 1e-6)), step.max_norm > 0.0);
    clip = vec4f(norm, scale, select(0.0, 1.0, finite), 0.0);
  }
}
