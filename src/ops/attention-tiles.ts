import type { AttentionShape } from "./attention.ts";
import { indices } from "./fragments.ts";

/** Sizes of the subgroup matrices that an attention kernel is built from, f16 factors and f32 sums, and of its tiles. */
export interface AttentionTiles {
  /** An (M, K) by a (K, N) matrix gives (M, N). Multiples of 8. */
  readonly matrixM: number;
  readonly matrixN: number;
  readonly matrixK: number;
  readonly subgroupSize: number;
  /** Subgroups of a workgroup: each owns `matrixM` rows of the scores. */
  readonly subgroups: number;
  /** Columns of the scores that exist at a time: a multiple of `matrixN` and `matrixK`. */
  readonly columns: number;
}

/** How many tiles of each kind a kernel keeps in workgroup memory. */
export interface TileCounts {
  /** (rows, D) f16, loaded once. */
  readonly rowTiles: number;
  /** (columns, D) f16, loaded anew for each block of columns. */
  readonly columnTiles: number;
  /** (rows, columns) f32, as the products leave them. */
  readonly scoreTiles: number;
  /** (rows, columns) f16, what the scores become. */
  readonly weightTiles: number;
}

/** The adapter's part of {@link AttentionTiles}. */
export type AttentionMatrices = Omit<AttentionTiles, "subgroups" | "columns">;

/** Bytes for what a kernel keeps beside its tiles: two f32 for each invocation, row and column. */
const SPARE_BYTES = 2048;

/**
 * The largest tiles that fit into `workgroupBytes`, or null where none do or a head cannot be cut into vectors of 8: more
 * scores for each value that is loaded.
 */
export function attentionTiles(
  { matrixM, matrixN, matrixK, subgroupSize }: AttentionMatrices,
  { headDim }: AttentionShape,
  counts: TileCounts,
  workgroupBytes: number,
): AttentionTiles | null {
  if (headDim % 8 !== 0) return null;
  const matrices = { matrixM, matrixN, matrixK, subgroupSize };
  const unit = leastCommonMultiple(matrices.matrixN, matrices.matrixK);
  // Few of the 8 × 8 matrices of drivers for the CPU, which compile each into much code.
  const blockCounts = unit < 16 ? [2, 1] : [4, 2, 1];
  const candidates = [4, 2, 1]
    .flatMap((subgroups) =>
      blockCounts.map((blocks): AttentionTiles => ({ ...matrices, subgroups, columns: blocks * unit })),
    )
    .sort((a, b) => b.subgroups * b.columns - a.subgroups * a.columns || b.subgroups - a.subgroups);
  const bytes = (tiles: AttentionTiles) => {
    const { tileStride, weightStride, scoreStride } = tileLayout(tiles, headDim);
    const rows = tiles.subgroups * tiles.matrixM;
    const groups =
      (counts.rowTiles * rows + counts.columnTiles * tiles.columns) * tileStride +
      counts.weightTiles * rows * weightStride +
      counts.scoreTiles * rows * scoreStride;
    return 16 * groups + SPARE_BYTES;
  };
  return candidates.find((tiles) => bytes(tiles) <= workgroupBytes) ?? null;
}

/** Strides of the tiles' rows in units of 16 bytes, odd so that rows lie in different banks. */
function tileLayout({ matrixN, matrixK, columns }: AttentionTiles, headDim: number) {
  const unit = leastCommonMultiple(matrixN, matrixK);
  const paddedDim = Math.ceil(headDim / unit) * unit;
  return {
    paddedDim,
    tileStride: (paddedDim / 8) | 1,
    weightStride: (columns / 8) | 1,
    scoreStride: (columns / 4) | 1,
  };
}

/**
 * The part of the `kernels/attention/tensor_*.wgsl` that has to be unrolled, because WGSL indexes subgroup matrices by
 * constants only where a compiler is to keep them in registers: sizes, workgroup memory, and the three functions that
 * touch subgroup matrices.
 */
export function attentionFragments(tiles: AttentionTiles, headDim: number, counts: TileCounts): string {
  const { matrixM, matrixN, matrixK, subgroupSize, subgroups, columns } = tiles;
  const { paddedDim, tileStride, weightStride, scoreStride } = tileLayout(tiles, headDim);
  const rows = subgroups * matrixM;
  const ofScores = indices(columns / matrixN);
  const ofDim = indices(paddedDim / matrixN);
  const perPart = columns / matrixN;
  const parts = Math.ceil(ofDim.length / perPart);
  const columnTiles = counts.rowTiles * rows * tileStride;
  const weightTiles = columnTiles + counts.columnTiles * columns * tileStride;
  return [
    ...Object.entries({
      THREADS: subgroups * subgroupSize,
      SUBGROUP_SIZE: subgroupSize,
      MATRIX_M: matrixM,
      ROWS: rows,
      COLUMNS: columns,
      DIM_GROUPS: headDim / 8, // of 8 elements
      PADDED_DIM_GROUPS: paddedDim / 8,
      PARTS: parts, // of the result, of COLUMNS elements of a row each
      TILE_STRIDE: tileStride,
      WEIGHT_STRIDE: weightStride,
      SCORE_STRIDE: scoreStride,
      // Where the tiles begin: the first of each kind, and the size of one.
      ROW_TILE: 0,
      ROW_TILE_SIZE: rows * tileStride,
      COLUMN_TILE: columnTiles,
      COLUMN_TILE_SIZE: columns * tileStride,
      WEIGHT_TILE: weightTiles,
      WEIGHT_TILE_SIZE: rows * weightStride,
      SCORE_TILE_SIZE: rows * scoreStride,
    }).map(([name, value]) => `const ${name} = ${value}u;`),
    `alias Left = subgroup_matrix_left<f16, ${matrixK}, ${matrixM}>;`,
    `alias Right = subgroup_matrix_right<f16, ${matrixN}, ${matrixK}>;`,
    `alias Sum = subgroup_matrix_result<f32, ${matrixN}, ${matrixM}>;`,
    `var<workgroup> tiles: array<vec4u, ${weightTiles + counts.weightTiles * rows * weightStride}>;`,
    `var<workgroup> score_tiles: array<vec4f, ${counts.scoreTiles * rows * scoreStride}>;`,
    // scores: (ROWS, D) by (COLUMNS, D) transposed into a score tile, of each subgroup its own rows.
    "fn scores(row_tile: u32, column_tile: u32, score_tile: u32, subgroup: u32) {",
    ...ofScores.map((j) => `  var sum_${j} = Sum();`),
    `  for (var k = 0u; k < ${paddedDim / matrixK}u; k++) {`,
    `    let left = subgroupMatrixLoad<Left, row_major>(&tiles, row_tile + subgroup * ${matrixM * tileStride}u + k * ${matrixK / 8}u, ${tileStride}u);`,
    ...ofScores.flatMap((j) => [
      `    let right_${j} = subgroupMatrixLoad<Right, col_major>(&tiles, column_tile + ${j * matrixN * tileStride}u + k * ${matrixK / 8}u, ${tileStride}u);`,
      `    sum_${j} = subgroupMatrixMultiplyAccumulate(left, right_${j}, sum_${j});`,
    ]),
    "  }",
    ...ofScores.map(
      (j) =>
        `  subgroupMatrixStore<row_major>(&score_tiles, score_tile + subgroup * ${matrixM * scoreStride}u + ${(j * matrixN) / 4}u, sum_${j}, ${scoreStride}u);`,
    ),
    "}",
    "struct Sums {",
    ...ofDim.map((d) => `  sum_${d}: Sum,`),
    "}",
    // accumulate: adds (ROWS, COLUMNS) weights by (COLUMNS, D) values.
    "fn accumulate(sums: ptr<function, Sums>, weight_tile: u32, column_tile: u32, subgroup: u32) {",
    ...indices(columns / matrixK).flatMap((k) => [
      "  {",
      `    let left = subgroupMatrixLoad<Left, row_major>(&tiles, weight_tile + subgroup * ${matrixM * weightStride}u + ${(k * matrixK) / 8}u, ${weightStride}u);`,
      ...ofDim.flatMap((d) => [
        `    let right_${d} = subgroupMatrixLoad<Right, row_major>(&tiles, column_tile + ${k * matrixK * tileStride + (d * matrixN) / 8}u, ${tileStride}u);`,
        `    sums.sum_${d} = subgroupMatrixMultiplyAccumulate(left, right_${d}, sums.sum_${d});`,
      ]),
      "  }",
    ]),
    "}",
    // store_part: COLUMNS elements of each row of the result into the first score tile.
    "fn store_part(sums: ptr<function, Sums>, part: u32, subgroup: u32) {",
    `  let at = subgroup * ${matrixM * scoreStride}u;`,
    "  switch part {",
    ...indices(parts).flatMap((part) => [
      `    ${part === parts - 1 ? "default" : `case ${part}u`}: {`,
      ...ofDim
        .slice(part * perPart, (part + 1) * perPart)
        .map(
          (d, j) =>
            `      subgroupMatrixStore<row_major>(&score_tiles, at + ${(j * matrixN) / 4}u, sums.sum_${d}, ${scoreStride}u);`,
        ),
      "    }",
    ]),
    "  }",
    "}",
    "",
  ].join("\n");
}

function leastCommonMultiple(a: number, b: number): number {
  let multiple = a;
  while (multiple % b !== 0) multiple += a;
  return multiple;
}
