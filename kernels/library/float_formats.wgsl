// decode, encode: four elements of a file's dtype to and from f32, in integer arithmetic, because f16 in WGSL is optional
// and may flush subnormals. A pattern has its 16 bits in the low half of a u32, or is an f32's bits.
// Decoding is exact. Encoding rounds to nearest, ties to even (IEEE 754-2019, 4.3.1), overflows to infinity, keeps
// subnormals, and keeps NaN a NaN. Reference: src/weights/half.ts

const BF16 = 0u;
const F16 = 1u;
const F32 = 2u;

const INFINITY_BITS = vec4u(0x7f800000u);
const F16_REBIAS = vec4u(112u << 23u); // the difference of the exponent biases, 127 − 15, in f32's exponent field

fn decode(dtype: u32, pattern: vec4u) -> vec4f {
  if (dtype == BF16) {
    return bitcast<vec4f>(pattern << vec4u(16u));
  }
  if (dtype == F16) {
    return decode_f16(pattern);
  }
  return bitcast<vec4f>(pattern);
}

fn encode(dtype: u32, value: vec4f) -> vec4u {
  let bits = bitcast<vec4u>(value);
  if (dtype == BF16) {
    return encode_bf16(bits);
  }
  if (dtype == F16) {
    return encode_f16(bits);
  }
  return bits;
}

fn decode_f16(pattern: vec4u) -> vec4f {
  return bitcast<vec4f>(widen_f16(pattern));
}

// f32's bits of an f16's.
fn widen_f16(pattern: vec4u) -> vec4u {
  let sign = (pattern & vec4u(0x8000u)) << vec4u(16u);
  let magnitude = pattern & vec4u(0x7fffu);
  let shifted = magnitude << vec4u(13u);
  let subnormal = bitcast<vec4u>(vec4f(magnitude) * exp2_of_minus_24);
  let finite = select(shifted + F16_REBIAS, subnormal, magnitude < vec4u(0x400u));
  return sign | select(finite, shifted | INFINITY_BITS, magnitude >= vec4u(0x7c00u));
}

const exp2_of_minus_24 = 1.0 / 16777216.0; // the smallest subnormal f16

fn encode_bf16(bits: vec4u) -> vec4u {
  let upper = bits >> vec4u(16u);
  let rounded = (bits + 0x7fffu + (upper & vec4u(1u))) >> vec4u(16u);
  return select(rounded, upper | vec4u(0x40u), is_nan(bits));
}

fn encode_f16(bits: vec4u) -> vec4u {
  let magnitude = bits & vec4u(0x7fffffffu);
  let fraction = magnitude >> vec4u(13u);
  let normal = (magnitude - F16_REBIAS + 0xfffu + (fraction & vec4u(1u))) >> vec4u(13u);
  // A subnormal: the significand with its leading one, shifted to units of 2^-24.
  let shift = clamp(126u - (magnitude >> vec4u(23u)), vec4u(14u), vec4u(24u));
  let significand = (magnitude & vec4u(0x7fffffu)) | vec4u(0x800000u);
  let halfway = vec4u(1u) << (shift - 1u);
  let subnormal = (significand + halfway - 1u + ((significand >> shift) & vec4u(1u))) >> shift;

  var rounded = select(normal, subnormal, magnitude < vec4u(0x38800000u)); // 2^-14
  rounded = select(rounded, vec4u(0u), magnitude <= vec4u(0x33000000u)); // 2^-25, a tie that goes to 0
  rounded = select(rounded, vec4u(0x7c00u), magnitude >= vec4u(0x477ff000u)); // 65520, the first that overflows
  rounded = select(rounded, (fraction & vec4u(0x3ffu)) | vec4u(0x7e00u), is_nan(bits));
  return ((bits >> vec4u(16u)) & vec4u(0x8000u)) | rounded;
}

fn is_nan(bits: vec4u) -> vec4<bool> {
  return (bits & vec4u(0x7fffffffu)) > INFINITY_BITS;
}
