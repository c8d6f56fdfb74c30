// watch/sentinel: the last thing in a command buffer: says that it has run, and which one it was
//   ring[executed mod RING] = id,  executed += 1
// log: (executed, changed, ~first, 0, ring...) u32 as src/gpu/watch.ts lays it out; the middle two are of watch/canaries.
// One invocation. Dispatch: (1). Reference: test/gpu/watch.test.ts

override RING: u32;

@group(0) @binding(0) var<uniform> id: vec4u; // x: of the command buffer's kind
@group(0) @binding(1) var<storage, read_write> log: array<u32>;

@compute @workgroup_size(1)
fn main() {
  let executed = log[0];
  log[4u + executed % RING] = id.x;
  log[0] = executed + 1u;
}
