import type { FragmentUnit } from "../gpu/fragment-unit.ts";
import type { Gpu } from "../gpu/gpu.ts";
import {
  type FragmentShape,
  fragmentsOf,
  type ProductKind,
  sharesLoads,
  threadsOf,
  tileOf,
  workgroupBytes,
} from "./fragments.ts";

/** A product's sizes: the result's rows and columns, and the length of the sum. */
export interface ProductSizes {
  readonly kind: ProductKind;
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/** Which list of shapes suits a product: by the narrower side of its result, which is LoRA's rank where it is narrow. */
export type ShapeClass = "wide" | "narrow right" | "narrow left";

/** Rows and columns of the result for each subgroup, subgroups along both, and elements of K between two barriers. */
type Candidate = readonly [partM: number, partN: number, subgroupsM: number, subgroupsN: number, step: number];

// The best guess first. Wide products are bound by what goes through the second-level cache and workgroup memory: large
// tiles. Narrow ones read a large matrix for few columns: many rows and long steps, so that much is under way at a time.
const WIDE: readonly Candidate[] = [
  [64, 64, 2, 4, 32],
  [64, 64, 4, 2, 32],
  [64, 64, 2, 2, 32],
  [64, 64, 2, 2, 64],
  [64, 32, 2, 2, 64],
  [32, 32, 2, 2, 64],
  [32, 32, 2, 2, 32],
];
const NARROW_32: readonly Candidate[] = [
  [16, 32, 4, 1, 128],
  [32, 32, 4, 1, 64],
  [16, 32, 4, 1, 64],
  [32, 32, 2, 1, 64],
  [32, 32, 2, 1, 32],
];
const NARROW_64: readonly Candidate[] = [
  [16, 64, 4, 1, 128],
  [32, 64, 4, 1, 64],
  [16, 64, 4, 1, 64],
  [32, 32, 2, 2, 64],
  [32, 32, 2, 2, 32],
];

// For drivers for the CPU, which compile each matrix into much code: few.
const WIDE_OF_SMALL: readonly Candidate[] = [
  [16, 16, 2, 2, 32],
  [16, 16, 2, 2, 64],
  [16, 16, 2, 4, 32],
];
const NARROW_OF_SMALL: readonly Candidate[] = [
  [16, 16, 2, 2, 32],
  [8, 16, 4, 1, 64],
];

/** Invocations of a subgroup: fewer are a driver for the CPU. */
const SMALLEST_OF_GPUS = 16;
/** Columns of the narrow side that one tile holds at most. Above, a product counts as wide. */
const NARROW = 64;
/** Workgroups that keep a large adapter busy. */
const ENOUGH_WORKGROUPS = 128;

export function shapeClassOf({ m, n, kind }: ProductSizes): ShapeClass {
  if (n <= NARROW) return "narrow right";
  return kind === "tn" && m <= NARROW ? "narrow left" : "wide";
}

/**
 * The shapes that this adapter can run a product in, the best guess first; none where its matrices suit no list, or its
 * workgroups are too small.
 */
export function candidateShapes(unit: FragmentUnit, sizes: ProductSizes): FragmentShape[] {
  const shapeClass = shapeClassOf(sizes);
  const isSmall = unit.subgroupSize < SMALLEST_OF_GPUS;
  const narrow = Math.min(sizes.m, sizes.n) <= NARROW / 2 ? NARROW_32 : NARROW_64;
  const list = shapeClass === "wide" ? (isSmall ? WIDE_OF_SMALL : WIDE) : isSmall ? NARROW_OF_SMALL : narrow;
  return list
    .map(([partM, partN, subgroupsM, subgroupsN, step]): FragmentShape => {
      const [rows, columns, alongM, alongN] =
        shapeClass === "narrow left" ? [partN, partM, subgroupsN, subgroupsM] : [partM, partN, subgroupsM, subgroupsN];
      return {
        matrixM: unit.matrixM,
        matrixN: unit.matrixN,
        matrixK: unit.matrixK,
        subgroupSize: unit.subgroupSize,
        fragmentsM: rows / unit.matrixM,
        fragmentsN: columns / unit.matrixN,
        subgroupsM: alongM,
        subgroupsN: alongN,
        step,
      };
    })
    .filter((shape) => fits(shape, sizes.kind, unit));
}

function fits(shape: FragmentShape, kind: ProductKind, unit: FragmentUnit): boolean {
  return (
    [shape.fragmentsM, shape.fragmentsN, shape.step / shape.matrixK].every(Number.isInteger) &&
    sharesLoads(shape) &&
    threadsOf(shape) <= unit.workgroupInvocations &&
    workgroupBytes(shape, kind) <= unit.workgroupBytes
  );
}

/** The shape that a product is given: what `gpu.decisions` says, else the best guess. */
export function shapeOf(gpu: Gpu, sizes: ProductSizes): FragmentShape {
  const candidates = candidateShapes(fragmentUnit(gpu), sizes);
  const shape = candidates[gpu.decisions.variantOf(caseName(sizes), guess(candidates, sizes))];
  if (!shape) throw new Error(`internal: no shape for ${caseName(sizes)} on this adapter`);
  return shape;
}

/**
 * The first candidate whose tiles are enough for a large adapter, or else the one with the most of them. A factor's gradient
 * is cut along K besides, so that its first candidate always has enough.
 */
function guess(candidates: readonly FragmentShape[], { kind, m, n }: ProductSizes): number {
  if (kind === "tn") return 0;
  const tiles = candidates.map(tileOf).map(({ tileM, tileN }) => Math.ceil(m / tileM) * Math.ceil(n / tileN));
  const enough = tiles.findIndex((count) => count >= ENOUGH_WORKGROUPS);
  return enough === -1 ? tiles.indexOf(Math.max(...tiles)) : enough;
}

/**
 * A product's name among `Decisions`. Batches of about the same size are one case: rows go down to a power of two, so that a
 * case measured for a run takes no more memory than the run does.
 */
export function caseName({ kind, m, n, k }: ProductSizes): string {
  const about = (rows: number) => 2 ** Math.floor(Math.log2(rows));
  const [of, by] = kind === "tn" ? [m, about(k)] : [about(m), k];
  return `matmul ${kind} ${of} x ${n} x ${by}`;
}

/** The sizes of a case, or null of one that is no product's. */
export function parseCase(name: string): ProductSizes | null {
  const [, kind, m, n, k] = /^matmul (nt|nn|tn) (\d+) x (\d+) x (\d+)$/.exec(name) ?? [];
  return kind ? { kind: kind as ProductKind, m: Number(m), n: Number(n), k: Number(k) } : null;
}

export function fragmentUnit({ fragments }: Gpu): FragmentUnit {
  if (!fragments) throw new Error("internal: this device has no subgroup matrices for f16");
  return fragments;
}

/** Whether `variant` is one that a product of this name can be given: what comes from a disk may be anything. */
export function isCandidate(unit: FragmentUnit, name: string, variant: number): boolean {
  const sizes = parseCase(name);
  return sizes !== null && candidateShapes(unit, sizes)[variant] !== undefined;
}

/** A shape in few words: the tile and the step, and how many subgroups share them. */
export function describeShape(shape: FragmentShape): string {
  const { tileM, tileN } = tileOf(shape);
  return `${tileM}x${tileN}x${shape.step}, ${shape.subgroupsM}x${shape.subgroupsN} subgroups`;
}

/** The cases that were asked for and decided, each with its shape. */
export function decidedTiles({ fragments, decisions }: Gpu): Record<string, string> {
  const tiles: Record<string, string> = {};
  for (const [name, variant] of decisions.used) {
    const sizes = parseCase(name);
    const shape = fragments && sizes && candidateShapes(fragments, sizes)[variant];
    if (shape) tiles[name] = describeShape(shape);
  }
  return tiles;
}

/** A product of every list of candidates, in every kind. */
const ONE_OF_EACH = (["nt", "nn", "tn"] as const).flatMap((kind) =>
  [NARROW / 2, NARROW, 4096].flatMap((rank): ProductSizes[] => [
    { kind, m: 4096, n: rank, k: 4096 },
    { kind, m: rank, n: 4096, k: 4096 },
  ]),
);

/** Whether every product of a model has a shape on this adapter. */
export function suitsProducts(unit: FragmentUnit): boolean {
  return ONE_OF_EACH.every((sizes) => candidateShapes(unit, sizes).length > 0);
}

/** The candidates in their order, as the kernels get them: decisions hold as long as this does. */
export function candidateFingerprint(unit: FragmentUnit): string {
  const generated = ONE_OF_EACH.map((sizes) =>
    candidateShapes(unit, sizes).map((shape) => fragmentsOf(shape, sizes.kind, [""])),
  );
  return JSON.stringify(generated);
}
