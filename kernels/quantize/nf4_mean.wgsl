// quantize/nf4_mean: offset = mean of absmax, which the second quantization subtracts (Dettmers et al. 2023, section 3)
// bitsandbytes takes torch's mean, whose order of summation, and so whose last bits, differ from device to device. This
// is the mean rounded once: each sum carries the rounding errors of its additions (Knuth's TwoSum) in a second f32.
// absmax: (BLOCKS) f32, none negative.  offset: (1) f32, written; not finite where an absmax is not.
// One workgroup. Dispatch: 1. Reference: test/reference/nf4.ts

const LANES = 256u;

struct Shape {
  elements: u32,
  cols: u32,
  blocks: u32,
  zero: u32, // for library/fused
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> absmax: array<f32>;
@group(0) @binding(2) var<storage, read_write> offset: array<f32>;

struct Sum {
  value: vec4f,
  error: vec4f,
}

var<workgroup> sums: array<Sum, LANES>;

fn add(sum: Sum, term: Sum) -> Sum {
  let value = opaque(sum.value + term.value, shape.zero);
  let part = opaque(value - sum.value, shape.zero);
  let error = (sum.value - opaque(value - part, shape.zero)) + (term.value - part);
  return Sum(value, error + sum.error + term.error);
}

fn absmax_at(block: u32) -> f32 {
  if (block >= shape.blocks) {
    return 0.0;
  }
  return absmax[block];
}

fn component(sum: Sum, i: u32) -> Sum {
  return Sum(vec4f(sum.value[i]), vec4f(sum.error[i]));
}

fn mean(sum: Sum) -> f32 {
  let total = opaque(sum.value + sum.error, shape.zero).x;
  let exponent = bitcast<u32>(total) >> 23u;
  if (exponent == 0u || exponent == 255u) {
    return total; // zero (or subnormal, which is as good), infinite or NaN
  }
  let count = f32(shape.blocks);
  let estimate = quotient(total, count);
  let total_error = sum.error.x - opaque(vec4f(total - sum.value.x), shape.zero).x;
  let rest = fused(vec4f(-estimate), vec4f(count), vec4f(total), shape.zero).x + total_error;
  return estimate + rest / count;
}

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
  var sum = Sum();
  for (var i = 4u * lane; i < shape.blocks; i += 4u * LANES) {
    let terms = vec4f(absmax_at(i), absmax_at(i + 1u), absmax_at(i + 2u), absmax_at(i + 3u));
    sum = add(sum, Sum(terms, vec4f()));
  }
  sums[lane] = sum;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier(); // the sums that the next line reads are there
    if (lane < half) {
      sums[lane] = add(sums[lane], sums[lane + half]);
    }
  }
  if (lane == 0u) {
    let all = sums[0];
    let pairs = add(component(all, 0u), component(all, 1u));
    offset[0] = mean(add(pairs, add(component(all, 2u), component(all, 3u))));
  }
}
