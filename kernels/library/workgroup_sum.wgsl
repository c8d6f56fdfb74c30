// workgroup_sum: the sum of one value per invocation over a workgroup of LANES, given to all of them.
// Always added in the same order, so the result is the same in every run. Call it in uniform control flow.

override LANES: u32; // the adapter's subgroup size: barriers within a subgroup cost next to nothing

var<workgroup> workgroup_partials: array<f32, LANES>;

fn workgroup_sum(value: f32, lane: u32) -> f32 {
  workgroup_partials[lane] = value;
  workgroupBarrier(); // every partial is there
  var sum = 0.0;
  for (var i = 0u; i < LANES; i++) {
    sum += workgroup_partials[i];
  }
  workgroupBarrier(); // everybody has read, so the partials may be written again
  return sum;
}
