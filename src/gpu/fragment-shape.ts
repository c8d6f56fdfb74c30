/** Sizes of a tensor-core kernel: of a subgroup matrix, as the adapter has them, and of what is built from these. */
export interface FragmentShape {
  /** A subgroup matrix: an (M, K) by a (K, N) one gives (M, N). Multiples of 8. */
  readonly matrixM: number;
  readonly matrixN: number;
  readonly matrixK: number;
  readonly subgroupSize: number;
  /** Subgroup matrices of the result that a subgroup keeps. */
  readonly fragmentsM: number;
  readonly fragmentsN: number;
  /** Subgroups of a workgroup. */
  readonly subgroupsM: number;
  readonly subgroupsN: number;
}
