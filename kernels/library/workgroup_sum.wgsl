// workgroup_sum: the sum of one value per invocation over a workgroup of 64, given to all of them.
// Always added in the same order, so the result is the same in every run. Call it in uniform control flow.

var<workgroup> workgroup_partials: array<f32, 64>;

fn workgroup_sum(value: f32, lane: u32) -> f32 {
  workgroup_partials[lane] = value;
  workgroupBarrier(); // every partial is there
  var sum = 0.0;
  for (var i = 0u; i < 64u; i++) {
    sum += workgroup_partials[i];
  }
  workgroupBarrier(); // everybody has read, so the partials may be written again
  return sum;
}
