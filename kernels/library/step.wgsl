// Step: what an optimizer step needs besides the tensors. Computed on the host in float64, because 1 − 0.999 in f32 is
// already wrong by 5e-5 of itself. t is the 1-based step.

struct Step {
  beta1: f32,
  one_minus_beta1: f32,
  beta2: f32,
  one_minus_beta2: f32,
  eps: f32,
  root_correction2: f32,  // sqrt(1 − beta2^t)
  step_size: f32,         // learning_rate / (1 − beta1^t)
  decay: f32,             // 1 − learning_rate · weight_decay
  max_norm: f32,          // of the gradient, 0 for no clipping
}
