// quantize/nf4_absmax: the second quantization, of absmax less their mean (Dettmers et al. 2023, section 3)
//   d = absmax − offset;  absmax2[block] = max |d|;  code = the nearest code to d · (1 / absmax2)
// to 8 bits through the signed dynamic map by blocks of 256, as bitsandbytes' quantize_blockwise on CUDA. (Its CPU backend
// first rounds d / absmax2 to one of 65,536 bins, which moves one or two codes in a thousand to the neighbour.) A block
// whose d are all 0 has the codes 0, as on both.
// absmax: (BLOCKS) f32.  offset: (1) f32.  code: the map, ascending.  absmax_codes: 4 bytes to a u32.
// absmax2: (BLOCKS / 256) f32. All is written; bytes past the last block are the code of 0.
// One workgroup of 64 per 256 absmax. Dispatch: ceil(BLOCKS / 256) workgroups in rows. Reference: test/reference/nf4.ts

const LANES = 64u;
const SMALLEST_NORMAL = 0x00800000u;

struct Shape {
  elements: u32,
  cols: u32,
  blocks: u32,
  zero: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> code: array<f32, 256>;
@group(0) @binding(2) var<storage, read> absmax: array<f32>;
@group(0) @binding(3) var<storage, read> offset: array<f32>;
@group(0) @binding(4) var<storage, read_write> absmax_codes: array<u32>;
@group(0) @binding(5) var<storage, read_write> absmax2: array<u32>;

var<workgroup> magnitudes: array<u32, LANES>;

fn difference(block: u32) -> f32 {
  if (block >= shape.blocks) {
    return 0.0;
  }
  return absmax[block] - offset[0];
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let index = workgroup.y * workgroups.x + workgroup.x;
  let first = 256u * index + 4u * lane;
  let d = vec4f(difference(first), difference(first + 1u), difference(first + 2u), difference(first + 3u));
  let each = bitcast<vec4u>(d) & vec4u(0x7fffffffu);
  magnitudes[lane] = max(max(each.x, each.y), max(each.z, each.w));
  workgroupBarrier(); // the largest of each invocation is there
  if (first >= shape.blocks) {
    return;
  }
  var largest = 0u;
  for (var i = 0u; i < LANES; i++) {
    largest = max(largest, magnitudes[i]);
  }
  var bytes = vec4u(0u);
  if (largest >= SMALLEST_NORMAL) {
    let x = d * quotient(1.0, bitcast<f32>(largest));
    bytes = vec4u(nearest(0u, x.x), nearest(0u, x.y), nearest(0u, x.z), nearest(0u, x.w));
  }
  let shifted = bytes << vec4u(0u, 8u, 16u, 24u);
  absmax_codes[first / 4u] = shifted.x | shifted.y | shifted.z | shifted.w;
  if (lane == 0u) {
    absmax2[index] = largest;
  }
}
