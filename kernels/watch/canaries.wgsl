// watch/canaries: how many guard words were changed, and the first of them
//   changed = Σ [guard_i ≠ CANARY],  first = min i with guard_i ≠ CANARY, kept as max ~i: 0 where there is none
// guards: (N) u32, the guards of all buffers one behind the other.
// log: (executed, changed, ~first, 0, ...) u32 as src/gpu/watch.ts lays it out; changed and ~first are 0 before.
// Dispatch: (ceil(N / 64)). Reference: test/gpu/watch.test.ts

override CANARY: u32;

@group(0) @binding(0) var<uniform> count: vec4u; // x: N
@group(0) @binding(1) var<storage, read> guards: array<u32>;
@group(0) @binding(2) var<storage, read_write> log: array<atomic<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < count.x && guards[id.x] != CANARY) {
    atomicAdd(&log[1], 1u);
    atomicMax(&log[2], ~id.x);
  }
}
