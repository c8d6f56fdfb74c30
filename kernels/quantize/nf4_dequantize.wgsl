// quantize/nf4_dequantize: w = value[code] · absmax,  absmax = map[absmax_code] · absmax2 + offset
// (Dettmers et al. 2023, section 3), each operation rounded to f32, then w to FORMAT: the bits of bitsandbytes'
// dequantize_4bit. To f16 it is rounded as pack2x16float rounds: to nearest even, subnormals too, on all drivers tested.
// Layouts of codes, absmax_codes and absmax2: quantize/nf4_quantize and quantize/nf4_absmax.
// w: rows FIRST_ROW onwards of (ROWS, COLS), as src/ops/matrix.ts wants a weight: rows of elements in FORMAT, padded with
// zeros to a multiple of 8, and so are their number. All of the binding is written.
// Memory-bound: an invocation loads one u32 of codes and stores 16 bytes of w (32 in f32), its neighbours the adjacent
// ones; the 8 of a block find its absmax in the cache. The 16 values are looked up in workgroup memory, where they lie in
// 16 banks, so that any mixture of codes is served at once: a `const` array indexed by a variable is served code by code.
// One invocation does GROUPS_PER_LANE groups of 8 elements, to share the table and its barrier.
// Dispatch: ceil(groups / (LANES · GROUPS_PER_LANE)) workgroups in rows. Reference: test/reference/nf4.ts

override FORMAT: u32; // BF16, F16 or F32 of library/float_formats
override FIRST_ROW: u32;

const LANES = 256u;
const GROUPS_PER_LANE = 4u;

const VALUES = array<f32, 16>(
  -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
  -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0);

struct Shape {
  elements: u32,
  cols: u32,
  blocks: u32,
  zero: u32, // a 0 that the compiler cannot know
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> code: array<f32, 256>;
@group(0) @binding(2) var<storage, read> codes: array<u32>;
@group(0) @binding(3) var<storage, read> absmax_codes: array<u32>;
@group(0) @binding(4) var<storage, read> absmax2: array<f32>;
@group(0) @binding(5) var<storage, read> offset: array<f32>;
@group(0) @binding(6) var<storage, read_write> w: array<vec4u>;

var<workgroup> values: array<f32, 16>;

fn absmax(block: u32) -> f32 {
  let byte = extractBits(absmax_codes[block / 4u], 8u * (block % 4u), 8u);
  let product = code[byte] * absmax2[block / 256u];
  // Kept from the sum, lest the two be fused and rounded once.
  return bitcast<f32>(bitcast<u32>(product) ^ shape.zero) + offset[0];
}

// Element e of the dense matrix.
fn element(e: u32) -> f32 {
  return values[extractBits(codes[e / 8u], 4u * ((e % 8u) ^ 1u), 4u)] * absmax(e / 64u);
}

// The element of a row that has no multiple of 8; 0 past its end.
fn element_at(row: u32, column: u32) -> f32 {
  let e = row * shape.cols + column;
  if (column >= shape.cols || e >= shape.elements) {
    return 0.0;
  }
  return element(e);
}

fn pack(dtype: u32, low: vec4f, high: vec4f) -> vec4u {
  if (dtype == F16) {
    return vec4u(
      pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
  }
  let first = encode(dtype, low);
  let second = encode(dtype, high);
  return vec4u(first.xz | (first.yw << vec2u(16u)), second.xz | (second.yw << vec2u(16u)));
}

fn store(group: u32, low: vec4f, high: vec4f) {
  if (FORMAT == F32) {
    w[2u * group] = bitcast<vec4u>(low);
    w[2u * group + 1u] = bitcast<vec4u>(high);
  } else {
    w[group] = pack(FORMAT, low, high);
  }
}

// Eight elements of rows that have a multiple of 8: they share a u32 of codes and an absmax.
fn whole_group(group: u32) {
  let index = FIRST_ROW * (shape.cols / 8u) + group;
  if (8u * index >= shape.elements) {
    store(group, vec4f(), vec4f());
    return;
  }
  let word = codes[index];
  let scale = absmax(index / 8u);
  let first = (vec4u(word) >> vec4u(4u, 0u, 12u, 8u)) & vec4u(15u);
  let second = (vec4u(word) >> vec4u(20u, 16u, 28u, 24u)) & vec4u(15u);
  let low = vec4f(values[first.x], values[first.y], values[first.z], values[first.w]);
  let high = vec4f(values[second.x], values[second.y], values[second.z], values[second.w]);
  store(group, low * scale, high * scale);
}

fn ragged_group(group: u32) {
  let row_groups = (shape.cols + 7u) / 8u;
  let row = FIRST_ROW + group / row_groups;
  let column = 8u * (group % row_groups);
  let low = vec4f(
    element_at(row, column), element_at(row, column + 1u), element_at(row, column + 2u), element_at(row, column + 3u));
  let high = vec4f(
    element_at(row, column + 4u), element_at(row, column + 5u), element_at(row, column + 6u),
    element_at(row, column + 7u));
  store(group, low, high);
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  if (lane < 16u) {
    values[lane] = VALUES[lane];
  }
  workgroupBarrier(); // the table is there
  let groups = arrayLength(&w) / select(1u, 2u, FORMAT == F32);
  let first = (workgroup.y * workgroups.x + workgroup.x) * LANES * GROUPS_PER_LANE + lane;
  for (var i = 0u; i < GROUPS_PER_LANE; i++) {
    let group = first + i * LANES;
    if (group < groups) {
      if (shape.cols % 8u == 0u) {
        whole_group(group);
      } else {
        ragged_group(group);
      }
    }
  }
}
