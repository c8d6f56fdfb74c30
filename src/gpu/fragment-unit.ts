/** What an adapter offers to kernels on subgroup matrices with f16 factors and f32 sums. */
export interface FragmentUnit {
  /** A subgroup matrix: an (M, K) by a (K, N) one gives (M, N). Multiples of 8. */
  readonly matrixM: number;
  readonly matrixN: number;
  readonly matrixK: number;
  readonly subgroupSize: number;
  /** Memory and invocations that a workgroup may have. */
  readonly workgroupBytes: number;
  readonly workgroupInvocations: number;
}
