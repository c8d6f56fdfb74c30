// quantize/nf4_quantize: 4-bit NormalFloat by blocks of 64 elements (QLoRA, Dettmers et al. 2023, section 3)
//   absmax[block] = max |x|;  code = the number of thresholds below x · (1 / absmax), each halfway between two values
// as bitsandbytes' quantize_4bit(quant_type="nf4", blocksize=64). Its two backends and this kernel agree but for:
//   - 1 / absmax, here and on the CPU rounded to nearest, is approximate in the CUDA build (--use_fast_math);
//   - the CPU divides in a last block that is not whole, CUDA and this kernel multiply by 1 / absmax everywhere;
//   - a block of zeros has the codes 7, which are 0, here and on the CPU; on CUDA the codes 0, which are −absmax, and no
//     longer 0 once absmax has been quantized in turn. A block of nothing but subnormals counts as one of zeros.
// A piece of a tensor: elements 64 · FIRST_BLOCK onwards of the dense matrix, row after row, blocks crossing rows.
// values: (ELEMENTS) in DTYPE as a file holds them, 16-bit ones two to a u32, the even one in the low half.
// codes: (tensor's elements / 8) u32 of 8 codes: bytes in memory order, of two codes the first in the high half.
// absmax: (tensor's blocks) f32. Of both all that belongs to the piece is written; codes past the last element are 7.
// Where an element is not finite neither is absmax, and the tensor's offset (quantize/nf4_mean) tells.
// One invocation per 8 elements; a workgroup of 64 takes 8 blocks. The maximum is one of integers, so that no subnormal
// is flushed and no NaN is lost. Dispatch: ceil(ELEMENTS / 512) workgroups in rows. Reference: test/reference/nf4.ts

override DTYPE: u32; // BF16, F16 or F32 of library/float_formats

const LANES = 64u;
const SMALLEST_NORMAL = 0x00800000u;

// bitsandbytes' dQuantizeNF4: (value i + value i + 1) / 2, rounded to f32.
const THRESHOLDS = array<f32, 15>(
  -0.8480964004993439, -0.6106329262256622, -0.4599952697753906, -0.33967943489551544, -0.23460740596055984,
  -0.13791173323988914, -0.045525018125772476, 0.03979014977812767, 0.1202552504837513, 0.2035212516784668,
  0.2920137718319893, 0.3893125355243683, 0.5016634166240692, 0.6427869200706482, 0.8614784181118011);

struct Piece {
  first_block: u32,
  elements: u32,
}

@group(0) @binding(0) var<uniform> piece: Piece;
@group(0) @binding(1) var<storage, read> values: array<u32>;
@group(0) @binding(2) var<storage, read_write> codes: array<u32>;
@group(0) @binding(3) var<storage, read_write> absmax: array<u32>;

var<workgroup> magnitudes: array<u32, LANES>;

// The pattern of 16 bits, or of 32, that begins at element e; 0 past the end.
fn word(e: u32) -> u32 {
  if (e >= piece.elements) {
    return 0u;
  }
  return values[select(e / 2u, e, DTYPE == F32)];
}

// Elements e to e + 3, 0 past the end.
fn load(e: u32) -> vec4f {
  if (DTYPE == F32) {
    return bitcast<vec4f>(vec4u(word(e), word(e + 1u), word(e + 2u), word(e + 3u)));
  }
  let pairs = vec2u(word(e), word(e + 2u));
  let pattern = vec4u(pairs.x & 0xffffu, pairs.x >> 16u, pairs.y & 0xffffu, pairs.y >> 16u);
  let is_there = vec4u(e) + vec4u(0u, 1u, 2u, 3u) < vec4u(piece.elements);
  return decode(DTYPE, select(vec4u(0u), pattern, is_there));
}

fn largest(low: vec4f, high: vec4f) -> u32 {
  let each = max(bitcast<vec4u>(low) & vec4u(0x7fffffffu), bitcast<vec4u>(high) & vec4u(0x7fffffffu));
  return max(max(each.x, each.y), max(each.z, each.w));
}

fn codes_of(x: vec4f) -> vec4u {
  var passed = vec4u(0u);
  for (var i = 0u; i < 15u; i++) {
    passed += select(vec4u(0u), vec4u(1u), x > vec4f(THRESHOLDS[i]));
  }
  return passed;
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let group = (workgroup.y * workgroups.x + workgroup.x) * LANES + lane;
  let low = load(8u * group);
  let high = load(8u * group + 4u);
  magnitudes[lane] = largest(low, high);
  workgroupBarrier(); // all eight largest of a block are there
  if (8u * group >= piece.elements) {
    return;
  }
  var block_largest = 0u;
  for (var i = 0u; i < 8u; i++) {
    block_largest = max(block_largest, magnitudes[(lane & 0xfffffff8u) + i]);
  }
  var inverse = 0.0;
  if (block_largest >= SMALLEST_NORMAL) {
    inverse = quotient(1.0, bitcast<f32>(block_largest));
  }
  let first = codes_of(low * inverse) << vec4u(4u, 0u, 12u, 8u);
  let second = codes_of(high * inverse) << vec4u(20u, 16u, 28u, 24u);
  let both = first | second;
  codes[8u * piece.first_block + group] = both.x | both.y | both.z | both.w;
  if (group % 8u == 0u) {
    absmax[piece.first_block + group / 8u] = block_largest;
  }
}
