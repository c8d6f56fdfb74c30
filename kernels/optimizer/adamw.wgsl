// optimizer/adamw: AdamW with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2)
//   m ← β1 m + (1 − β1) g;  v ← β2 v + (1 − β2) g²;  p ← p · decay − lr / c1 · m / (√v / √c2 + eps)
// with c1 = 1 − β1ᵗ, c2 = 1 − β2ᵗ, as torch.optim.AdamW. With DECAY_LAST the update is decayed too, as bitsandbytes does.
// p, g, m, v: VECS vec4 of f32, padding included: it is zero and stays so. g is scaled by clip.y first. Where clip.z is 0
// (the gradient is not finite) nothing changes. p, m and v are written.
// One invocation per vec4. Dispatch: ceil(VECS / 64) in rows of GROUPS_X. Reference: test/reference/optimizer.ts

override VECS: u32;
override GROUPS_X: u32;
override DECAY_LAST: bool;

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<storage, read> clip: vec4f;
@group(0) @binding(2) var<storage, read> gradient: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> parameter: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> first_moment: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> second_moment: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * GROUPS_X + group.x) * 64u + lane;
  if (i >= VECS || clip.z == 0.0) {
    return;
  }
  let g = gradient[i] * clip.y;
  let m = first_moment[i] + step.one_minus_beta1 * (g - first_moment[i]);
  let v = step.beta2 * second_moment[i] + step.one_minus_beta2 * g * g;
  first_moment[i] = m;
  second_moment[i] = v;
  let denominator = sqrt(v) / step.root_correction2 + step.eps;
  let update = step.step_size * m / denominator;
  if (DECAY_LAST) {
    parameter[i] = (parameter[i] - update) * step.decay;
  } else {
    parameter[i] = parameter[i] * step.decay - update;
  }
}
