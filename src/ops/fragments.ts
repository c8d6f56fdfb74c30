/** Sizes of a matmul kernel on subgroup matrices: of a matrix, as the adapter has them, and of what is built from these. */
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
  /** Elements along K between two barriers: a multiple of a matrix's K. */
  readonly step: number;
}

/** How the factors lie: X·Wᵀ (the sum runs along the rows of both), X·W, or Xᵀ·W (along the columns of both). */
export type ProductKind = "nt" | "nn" | "tn";

/** Groups of 8 f16 that keep the rows of a tile in different banks. Likewise of 4 f32 in the sums. */
const PADDING = 1;

/** Rows and columns of the result that a workgroup computes. */
export function tileOf(shape: FragmentShape): { tileM: number; tileN: number } {
  return {
    tileM: shape.subgroupsM * shape.fragmentsM * shape.matrixM,
    tileN: shape.subgroupsN * shape.fragmentsN * shape.matrixN,
  };
}

/** Invocations of a workgroup. */
export function threadsOf({ subgroupsM, subgroupsN, subgroupSize }: FragmentShape): number {
  return subgroupsM * subgroupsN * subgroupSize;
}

/** Where factors and sums lie in workgroup memory, in units of 16 bytes. The sums take the tiles' place in the end. */
function layoutOf(shape: FragmentShape, kind: ProductKind) {
  const { matrixM, matrixN, fragmentsN, subgroupsM, subgroupsN, step } = shape;
  const { tileM, tileN } = tileOf(shape);
  // A tile's lines lie as its matrix does in memory: along K, or across it.
  const [leftLine, leftLines] = kind === "tn" ? [tileM / 8, step] : [step / 8, tileM];
  const [rightLine, rightLines] = kind === "nt" ? [step / 8, tileN] : [tileN / 8, step];
  const leftStride = leftLine + PADDING;
  const rightStride = rightLine + PADDING;
  const rightStart = leftLines * leftStride;
  const sumStride = (fragmentsN * matrixN) / 4 + PADDING;
  const sumGroups = subgroupsM * subgroupsN * matrixM * sumStride;
  return {
    leftLine,
    leftStride,
    rightLine,
    rightStride,
    rightStart,
    sumStride,
    groups: Math.max(rightStart + rightLines * rightStride, sumGroups),
  };
}

/** Bytes of workgroup memory that the kernel takes. */
export function workgroupBytes(shape: FragmentShape, kind: ProductKind): number {
  return 16 * layoutOf(shape, kind).groups;
}

/** Whether the invocations of a workgroup share the loads of both tiles evenly. */
export function sharesLoads(shape: FragmentShape): boolean {
  const { tileM, tileN } = tileOf(shape);
  return [tileM, tileN].every((lines) => (lines * shape.step) % (8 * threadsOf(shape)) === 0);
}

/**
 * The part of `kernels/matmul/tensor*.wgsl` that has to be unrolled, because WGSL indexes subgroup matrices by constants
 * only where a compiler is to keep them in registers: sizes, workgroup memory, the loads of a step (into named registers,
 * for the same reason) and what touches the sums.
 *
 * @param loads suffixes of the kernel's pairs of functions `load_left*` and `load_right*`, each of which brings one group
 *   of 8: for each there will be a `load_step*`
 */
export function fragmentsOf(shape: FragmentShape, kind: ProductKind, loads: readonly string[]): string {
  // A model's products share a handful of texts.
  const key = JSON.stringify([shape, kind, loads]);
  const made = texts.get(key) ?? unrolled(shape, kind, loads);
  texts.set(key, made);
  return made;
}

const texts = new Map<string, string>();

function unrolled(shape: FragmentShape, kind: ProductKind, loads: readonly string[]): string {
  const { matrixM, matrixN, matrixK, fragmentsM, fragmentsN, subgroupsN, subgroupSize, step } = shape;
  const { tileM, tileN } = tileOf(shape);
  const layout = layoutOf(shape, kind);
  return [
    ...Object.entries({
      MATRIX_M: matrixM,
      FRAGMENTS_M: fragmentsM,
      SUBGROUPS_N: subgroupsN,
      SUBGROUP_SIZE: subgroupSize,
      THREADS: threadsOf(shape),
      STEP: step,
      TILE_M: tileM,
      TILE_N: tileN,
      PART_N_VECS: (fragmentsN * matrixN) / 4,
      LEFT_LINE: layout.leftLine,
      LEFT_STRIDE: layout.leftStride,
      RIGHT_LINE: layout.rightLine,
      RIGHT_STRIDE: layout.rightStride,
      RIGHT_START: layout.rightStart,
      SUM_STRIDE: layout.sumStride,
    }).map(([name, value]) => `const ${name} = ${value}u;`),
    `alias Left = subgroup_matrix_left<f16, ${matrixK}, ${matrixM}>;`,
    `alias Right = subgroup_matrix_right<f16, ${matrixN}, ${matrixK}>;`,
    `alias Sum = subgroup_matrix_result<f32, ${matrixN}, ${matrixM}>;`,
    `var<workgroup> tiles: array<vec4u, ${layout.groups}>;`,
    ...loadsOf(shape, loads),
    "struct Sums {",
    ...indices(fragmentsM).flatMap((i) => indices(fragmentsN).map((j) => `  sum_${i}_${j}: Sum,`)),
    "}",
    ...multiplyOf(shape, kind),
    ...storeOf(shape, kind),
    "",
  ].join("\n");
}

/** What an invocation brings of a step: registers, their loads, and the way into the tiles. */
function loadsOf(shape: FragmentShape, loads: readonly string[]): string[] {
  const { tileM, tileN } = tileOf(shape);
  const threads = threadsOf(shape);
  const registers = [
    ...indices((tileM * shape.step) / 8 / threads).map((i) => ({ side: "left", i })),
    ...indices((tileN * shape.step) / 8 / threads).map((i) => ({ side: "right", i })),
  ];
  return [
    "struct Groups {",
    ...registers.map(({ side, i }) => `  ${side}_${i}: vec4u,`),
    "}",
    ...loads.flatMap((suffix) => [
      `fn load_step${suffix}(place: Place, step: u32, thread: u32) -> Groups {`,
      "  var groups: Groups;",
      ...registers.map(
        ({ side, i }) => `  groups.${side}_${i} = load_${side}${suffix}(place, step, thread + ${i * threads}u);`,
      ),
      "  return groups;",
      "}",
    ]),
    "fn stage(groups: Groups, thread: u32) {",
    ...registers.map(({ side, i }) => {
      const [group, line] = [`(thread + ${i * threads}u)`, `${side.toUpperCase()}_LINE`];
      const start = side === "right" ? "RIGHT_START + " : "";
      const at = `${start}${group} / ${line} * ${side.toUpperCase()}_STRIDE + ${group} % ${line}`;
      return `  tiles[${at}] = groups.${side}_${i};`;
    }),
    "}",
  ];
}

/** multiply: adds the product of the tiles' parts that are this subgroup's. */
function multiplyOf(shape: FragmentShape, kind: ProductKind): string[] {
  const { matrixM, matrixN, matrixK, fragmentsM, fragmentsN, step } = shape;
  const { leftStride, rightStride, rightStart } = layoutOf(shape, kind);
  const leftOrder = kind === "tn" ? "col_major" : "row_major";
  const rightOrder = kind === "nt" ? "col_major" : "row_major";
  const leftAt = (k: number, i: number) => {
    const row = `(subgroup_row * ${fragmentsM * matrixM}u + ${i * matrixM}u)`;
    return kind === "tn" ? `${k * leftStride}u + ${row} / 8u` : `${row} * ${leftStride}u + ${k / 8}u`;
  };
  const rightAt = (k: number, j: number) => {
    const column = `(subgroup_column * ${fragmentsN * matrixN}u + ${j * matrixN}u)`;
    return kind === "nt"
      ? `${rightStart + k / 8}u + ${column} * ${rightStride}u`
      : `${rightStart + k * rightStride}u + ${column} / 8u`;
  };
  const load = (side: string, type: string, order: string, at: string, stride: number) =>
    `    let ${side} = subgroupMatrixLoad<${type}, ${order}>(&tiles, ${at}, ${stride}u);`;
  return [
    "fn multiply(sums: ptr<function, Sums>, subgroup_row: u32, subgroup_column: u32) {",
    ...indices(step / matrixK).flatMap((index) => {
      const k = index * matrixK;
      return [
        "  {",
        ...indices(fragmentsN).map((j) => load(`right_${j}`, "Right", rightOrder, rightAt(k, j), rightStride)),
        ...indices(fragmentsM).flatMap((i) => [
          load(`left_${i}`, "Left", leftOrder, leftAt(k, i), leftStride),
          ...indices(fragmentsN).map(
            (j) =>
              `    sums.sum_${i}_${j} = subgroupMatrixMultiplyAccumulate(left_${i}, right_${j}, sums.sum_${i}_${j});`,
          ),
        ]),
        "  }",
      ];
    }),
    "}",
  ];
}

/** store_sums: a row of subgroup matrices into the memory of the tiles, which nobody needs any more. */
function storeOf(shape: FragmentShape, kind: ProductKind): string[] {
  const { matrixM, matrixN, fragmentsM, fragmentsN } = shape;
  const { sumStride } = layoutOf(shape, kind);
  return [
    "fn store_sums(sums: ptr<function, Sums>, row: u32, subgroup: u32) {",
    `  let at = subgroup * ${matrixM * sumStride}u;`,
    "  switch row {",
    ...indices(fragmentsM).flatMap((i) => [
      `    ${i === fragmentsM - 1 ? "default" : `case ${i}u`}: {`,
      ...indices(fragmentsN).map(
        (j) =>
          `      subgroupMatrixStore<row_major>(&tiles, at + ${(j * matrixN) / 4}u, sums.sum_${i}_${j}, ${sumStride}u);`,
      ),
      "    }",
    ]),
    "  }",
    "}",
  ];
}

/** 0, 1, … for generated text. */
export function indices(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}
