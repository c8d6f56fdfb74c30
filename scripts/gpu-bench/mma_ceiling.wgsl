// mma_ceiling: sums[i][j] = rounds · left[i] · right[j], on registers alone
// How fast the adapter multiplies and accumulates subgroup matrices when nothing has to be loaded: independent sums of a few
// left and right factors, as a tile of a product has them. Every subgroup does the same.
// factors: FACTORS left (M, K), then as many right (K, N) matrices, f16. result: (FACTORS², M, N) f32, written by all alike.
// In front stand the sizes, INVOCATIONS, and what has to be unrolled: Factors, Sums, load_factors, multiply and store_sums,
// by scripts/gpu-bench/ceiling.ts. There is the reference too.
// Dispatch: as many workgroups as fill the adapter.

@group(0) @binding(0) var<uniform> rounds: vec4u; // x
@group(0) @binding(1) var<storage, read> factors: array<f16>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(INVOCATIONS)
fn main() {
  var registers: Factors;
  load_factors(&registers);
  var sums: Sums;
  for (var round = 0u; round < rounds.x; round++) {
    multiply(&registers, &sums);
  }
  store_sums(&sums);
}
