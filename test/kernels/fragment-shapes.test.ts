import { describe, expect, it } from "vitest";
import type { FragmentUnit } from "../../src/gpu/fragment-unit.ts";
import {
  candidateFingerprint,
  candidateShapes,
  caseName,
  describeShape,
  isCandidate,
  type ProductSizes,
  parseCase,
  shapeClassOf,
  suitsProducts,
} from "../../src/ops/fragment-shapes.ts";
import { fragmentsOf, tileOf, workgroupBytes } from "../../src/ops/fragments.ts";

// Which shapes there are for a product, and under which name one is decided. No device is needed.

const NVIDIA: FragmentUnit = {
  matrixM: 16,
  matrixN: 16,
  matrixK: 16,
  subgroupSize: 32,
  workgroupBytes: 48 * 1024,
  workgroupInvocations: 1024,
};
const SMALL: FragmentUnit = { ...NVIDIA, matrixM: 8, matrixN: 8, matrixK: 8, subgroupSize: 8, workgroupBytes: 32_768 };

const PRODUCTS: readonly ProductSizes[] = [
  { kind: "nt", m: 8192, n: 4096, k: 14_336 },
  { kind: "nn", m: 8192, n: 32, k: 1024 },
  { kind: "tn", m: 32, n: 4096, k: 8192 },
  { kind: "tn", m: 1024, n: 64, k: 8192 },
  { kind: "tn", m: 1024, n: 72, k: 256 },
  { kind: "nt", m: 1, n: 8, k: 8 },
];

describe("the name of a product", () => {
  it.each(PRODUCTS)("$kind, $m x $n x $k, is read again", (sizes) => {
    expect(parseCase(caseName(sizes))).toEqual(sizes);
  });

  it("is one for batches of about the same size, and measured with no more rows than any of them", () => {
    const nt = { kind: "nt", n: 4096, k: 1024 } as const;
    expect(caseName({ ...nt, m: 8191 })).toBe(caseName({ ...nt, m: 4096 }));
    expect(caseName({ ...nt, m: 8191 })).not.toBe(caseName({ ...nt, m: 8192 }));
    const tn = { kind: "tn", m: 32, n: 4096 } as const;
    expect(parseCase(caseName({ ...tn, k: 3000 }))).toEqual({ ...tn, k: 2048 });
    expect(parseCase(caseName({ ...tn, m: 33, k: 3000 }))?.m).toBe(33);
  });

  it.each(["", "matmul", "matmul tt 1 x 2 x 3", "matmul nt 1 x 2", "matmul nt 1 x 2 x 3 ", "matmul nt -1 x 2 x 3"])(
    "is not %j",
    (name) => {
      expect(parseCase(name)).toBeNull();
    },
  );
});

describe.each([
  { name: "16 x 16 x 16 matrices", unit: NVIDIA },
  { name: "8 x 8 x 8 matrices", unit: SMALL },
])("the candidates with $name", ({ unit }) => {
  it.each(PRODUCTS)("of $kind, $m x $n x $k, fit, differ and are told apart", (sizes) => {
    const shapes = candidateShapes(unit, sizes);
    expect(shapes.length).toBeGreaterThan(1);
    expect(new Set(shapes.map(describeShape)).size).toBe(shapes.length);
    for (const shape of shapes) expect(workgroupBytes(shape, sizes.kind)).toBeLessThanOrEqual(unit.workgroupBytes);
    if (shapeClassOf(sizes) === "narrow left") {
      for (const { tileM, tileN } of shapes.map(tileOf)) expect(tileM).toBeLessThanOrEqual(tileN);
    }
    for (const [variant] of shapes.entries()) expect(isCandidate(unit, caseName(sizes), variant)).toBe(true);
    for (const other of [-1, shapes.length, 0.5, Number.NaN]) {
      expect(isCandidate(unit, caseName(sizes), other)).toBe(false);
    }
  });

  it("are all in the fingerprint, in their order", () => {
    const fingerprint = candidateFingerprint(unit);
    for (const sizes of PRODUCTS) {
      const generated = candidateShapes(unit, sizes).map((shape) => fragmentsOf(shape, sizes.kind, [""]));
      expect(fingerprint).toContain(JSON.stringify(generated));
    }
  });
});

it("fewer candidates have another fingerprint", () => {
  expect(suitsProducts(NVIDIA)).toBe(true);
  const less = { ...NVIDIA, workgroupInvocations: 128 };
  expect(candidateFingerprint(less)).not.toBe(candidateFingerprint(NVIDIA));
  expect(candidateFingerprint({ ...NVIDIA, subgroupSize: 64 })).not.toBe(candidateFingerprint(NVIDIA));
  expect(candidateFingerprint({ ...NVIDIA })).toBe(candidateFingerprint(NVIDIA));
});

it("no product has a case that is not one's", () => {
  expect(isCandidate(NVIDIA, "attention 8", 0)).toBe(false);
  expect(suitsProducts({ ...NVIDIA, workgroupBytes: 1024 })).toBe(false);
});
