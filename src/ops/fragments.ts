import type { FragmentShape } from "../gpu/fragment-shape.ts";

/** Elements along K between two barriers: a multiple of a matrix's K. */
export const STEP = 32;
/** Groups of 8 f16 that keep the rows of a tile in different banks. */
const TILE_PADDING = 1;

/** Rows and columns of the result that a workgroup computes. */
export function tileOf(shape: FragmentShape): { tileM: number; tileN: number } {
  return {
    tileM: shape.subgroupsM * shape.fragmentsM * shape.matrixM,
    tileN: shape.subgroupsN * shape.fragmentsN * shape.matrixN,
  };
}

/** Whether the invocations of a workgroup share its tiles evenly, and these fit into `workgroupBytes` of its memory. */
export function fitsWorkgroup(shape: FragmentShape, workgroupBytes: number): boolean {
  const { matrixM, matrixN, fragmentsN, subgroupsM, subgroupsN, subgroupSize } = shape;
  const { tileM, tileN } = tileOf(shape);
  const threads = subgroupsM * subgroupsN * subgroupSize;
  const isEven = [tileM, tileN].every((rows) => (rows * STEP) % (8 * threads) === 0);
  const stepGroups = STEP / 8 + TILE_PADDING;
  const tileGroups = tileM * stepGroups + Math.max(tileN * stepGroups, STEP * (tileN / 8 + TILE_PADDING));
  const sums = subgroupsM * subgroupsN * matrixM * fragmentsN * matrixN;
  return isEven && 16 * tileGroups + 4 * sums <= workgroupBytes;
}

/**
 * The part of `kernels/matmul/tensor.wgsl` that has to be unrolled, because WGSL indexes subgroup matrices by constants
 * only where a compiler is to keep them in registers: its sizes, its workgroup memory, and the two functions that touch
 * the sums. This is the one generator of shader text.
 *
 * @param transposed whether the right factor's tile lies as (N, K)
 */
export function fragmentsOf(shape: FragmentShape, transposed: boolean): string {
  const { matrixM, matrixN, matrixK, fragmentsM, fragmentsN, subgroupsM, subgroupsN, subgroupSize } = shape;
  const { tileM, tileN } = tileOf(shape);
  const rows = indices(fragmentsM);
  const columns = indices(fragmentsN);
  const xStride = STEP / 8 + TILE_PADDING;
  const rStride = (transposed ? STEP : tileN) / 8 + TILE_PADDING;
  const rRows = transposed ? tileN : STEP;
  const partN = fragmentsN * matrixN;
  const order = transposed ? "col_major" : "row_major";
  const right = (k: number, j: number) => {
    const column = `subgroup_column * ${partN}u + ${j * matrixN}u`;
    return transposed ? `(${column}) * ${rStride}u + ${k / 8}u` : `${k * rStride}u + (${column}) / 8u`;
  };
  const perSum = (line: (i: number, j: number) => string) => rows.flatMap((i) => columns.map((j) => line(i, j)));
  const steps = indices(STEP / matrixK).map((step) => step * matrixK);
  return [
    ...Object.entries({
      MATRIX_M: matrixM,
      FRAGMENTS_M: fragmentsM,
      SUBGROUPS_M: subgroupsM,
      SUBGROUPS_N: subgroupsN,
      SUBGROUP_SIZE: subgroupSize,
      STEP,
      TILE_M: tileM,
      TILE_N: tileN,
      PART_N: partN,
      PART_N_VECS: partN / 4,
      X_TILE_STRIDE: xStride,
      R_TILE_STRIDE: rStride,
    }).map(([name, value]) => `const ${name} = ${value}u;`),
    `alias Left = subgroup_matrix_left<f16, ${matrixK}, ${matrixM}>;`,
    `alias Right = subgroup_matrix_right<f16, ${matrixN}, ${matrixK}>;`,
    `alias Sum = subgroup_matrix_result<f32, ${matrixN}, ${matrixM}>;`,
    `var<workgroup> x_tile: array<vec4u, ${tileM * xStride}>;`,
    `var<workgroup> r_tile: array<vec4u, ${rRows * rStride}>;`,
    `var<workgroup> sum_tile: array<f32, ${subgroupsM * subgroupsN * matrixM * partN}>;`,
    "struct Sums {",
    ...perSum((i, j) => `  sum_${i}_${j}: Sum,`),
    "}",
    "fn multiply(sums: ptr<function, Sums>, subgroup_row: u32, subgroup_column: u32) {",
    ...steps.flatMap((k) => [
      "  {",
      ...columns.map(
        (j) => `    let right_${j} = subgroupMatrixLoad<Right, ${order}>(&r_tile, ${right(k, j)}, ${rStride}u);`,
      ),
      ...rows.flatMap((i) => [
        `    let left_${i} = subgroupMatrixLoad<Left, row_major>(&x_tile, (subgroup_row * ${fragmentsM * matrixM}u + ${i * matrixM}u) * ${xStride}u + ${k / 8}u, ${xStride}u);`,
        ...columns.map(
          (j) =>
            `    sums.sum_${i}_${j} = subgroupMatrixMultiplyAccumulate(left_${i}, right_${j}, sums.sum_${i}_${j});`,
        ),
      ]),
      "  }",
    ]),
    "}",
    "fn store_sums(sums: ptr<function, Sums>, row: u32, subgroup: u32) {",
    `  let at = subgroup * ${matrixM * partN}u;`,
    "  switch row {",
    ...rows.flatMap((i) => [
      `    ${i === fragmentsM - 1 ? "default" : `case ${i}u`}: {`,
      ...columns.map(
        (j) => `      subgroupMatrixStore<row_major>(&sum_tile, at + ${j * matrixN}u, sums.sum_${i}_${j}, ${partN}u);`,
      ),
      "    }",
    ]),
    "  }",
    "}",
    "",
  ].join("\n");
}

function indices(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}
