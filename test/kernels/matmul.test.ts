import { describe, expect, it } from "vitest";
import { matmulNN, matmulNT, matmulTN, type Prior } from "../../src/ops/matmul.ts";
import type { WeightFormat } from "../../src/ops/matrix.ts";
import { useDevice } from "../device.ts";
import { firstDifference, type Numbers, relativeError, roundedToBf16, seededNumbers } from "../numbers.ts";
import * as reference from "../reference/matmul.ts";
import {
  changedMatrix,
  constantMatrix,
  denseRows,
  expectRows,
  inputMatrix,
  inputWeight,
  inputWords,
  outputMatrix,
  rowCount,
  run,
  sumMatrix,
} from "./harness.ts";

const device = useDevice();
/** One part holds at most 64 rows of a (·, 65) weight in f32, 128 in bf16. */
const small = useDevice({ bindingLimitBytes: 64 * 72 * 4 });

const ROWS = [1, 7, 65, 130];

/** `rank` 0: no LoRA. */
interface LinearShape {
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly format: WeightFormat;
  readonly rank: number;
  readonly scale: number;
}

const shape = (
  inFeatures: number,
  outFeatures: number,
  format: WeightFormat,
  rank: number,
  scale = 1,
): LinearShape => ({ inFeatures, outFeatures, format, rank, scale });

function randomWeight(seed: number, { inFeatures, outFeatures, format }: LinearShape): Float32Array<ArrayBuffer> {
  const values = seededNumbers(seed).normals(outFeatures * inFeatures);
  return format === "bf16" ? roundedToBf16(values) : values;
}

/** Y = scale · X·Wᵀ (+ U·Bᵀ) (+ R) against float64, for every number of rows. */
async function expectLinear(linear: LinearShape & { residual: boolean }): Promise<void> {
  const { inFeatures: k, outFeatures: n, format, rank, scale } = linear;
  const { gpu } = device;
  const weights = randomWeight(1, linear);
  const w = inputWeight(gpu, format, weights, n, k);
  for (const m of ROWS) {
    const random = seededNumbers(m);
    const [x, u, b, r] = [m * k, m * rank, n * rank, m * n].map((length) => random.normals(length)) as Float32Array[];
    const count = rowCount(gpu, m);
    const y = outputMatrix(gpu, count, n);
    const commands = matmulNT(gpu, {
      count,
      x: inputMatrix(gpu, count, x!, k),
      w,
      y,
      scale,
      lora: rank > 0 ? { u: inputMatrix(gpu, count, u!, rank), b: constantMatrix(gpu, b!, n, rank) } : undefined,
      residual: linear.residual ? inputMatrix(gpu, count, r!, n) : undefined,
    });

    const [bits] = await run(gpu, commands, [y]);

    let expected: Numbers = reference.matmulNT(x!, weights, { m, n, k }).map((value) => scale * value);
    if (rank > 0) expected = reference.addScaled(expected, reference.matmulNT(u!, b!, { m, n, k: rank }));
    if (linear.residual) expected = reference.addScaled(expected, r!);
    expectRows(bits!, y, expected);
  }
}

describe("matmul/nt", () => {
  const cases = [
    { ...shape(1, 1, "bf16", 0), residual: false },
    { ...shape(7, 9, "f32", 1, 0.5), residual: true },
    { ...shape(33, 20, "bf16", 3), residual: true },
    { ...shape(40, 72, "f32", 8, 1.5), residual: false },
    { ...shape(65, 130, "bf16", 17), residual: true },
    { ...shape(130, 65, "f32", 0), residual: false },
  ];
  const NAME = "$inFeatures → $outFeatures, $format, rank $rank, scale $scale, residual $residual";
  it.each(cases)(NAME, expectLinear);

  // Shapes at which one driver's compiler lost stores of an earlier form of this kernel, without an error.
  it.each([
    { ...shape(16, 40, "bf16", 0), residual: true },
    { ...shape(24, 56, "bf16", 0), residual: false },
    { ...shape(24, 16, "bf16", 0), residual: true },
    { ...shape(32, 56, "bf16", 0), residual: false },
    { ...shape(32, 96, "f32", 0), residual: true },
    { ...shape(64, 72, "bf16", 0), residual: true },
    { ...shape(72, 24, "bf16", 0), residual: false },
    { ...shape(256, 56, "bf16", 0), residual: false },
  ])(`no store is lost: ${NAME}`, expectLinear);

  it("takes a matrix for a weight", async () => {
    const { gpu } = device;
    const [m, n, k] = [65, 3, 20];
    const random = seededNumbers(4);
    const [x, w] = [random.normals(m * k), random.normals(n * k)];
    const count = rowCount(gpu, m);
    const y = outputMatrix(gpu, count, n);
    const [bits] = await run(
      gpu,
      matmulNT(gpu, { count, x: inputMatrix(gpu, count, x, k), w: constantMatrix(gpu, w, n, k), y, scale: 2 }),
      [y],
    );
    expectRows(
      bits!,
      y,
      reference.matmulNT(x, w, { m, n, k }).map((value) => 2 * value),
    );
  });

  it.each(["bf16", "f32"] as const)("gives the same bits for a %s weight in parts", async (format) => {
    const linear = shape(65, 130, format, 3);
    const { inFeatures: k, outFeatures: n, rank } = linear;
    const m = 13;
    const random = seededNumbers(5);
    const [x, u, b] = [random.normals(m * k), random.normals(m * rank), random.normals(n * rank)];
    const results: Float32Array[] = [];
    for (const { gpu } of [device, small]) {
      const w = inputWeight(gpu, format, randomWeight(6, linear), n, k);
      expect(w.parts.length).toBe(gpu === device.gpu ? 1 : format === "f32" ? 3 : 2);
      const count = rowCount(gpu, m);
      const y = outputMatrix(gpu, count, n);
      const lora = { u: inputMatrix(gpu, count, u, rank), b: constantMatrix(gpu, b, n, rank) };
      const [bits] = await run(gpu, matmulNT(gpu, { count, x: inputMatrix(gpu, count, x, k), w, y, lora }), [y]);
      results.push(denseRows(bits!, y));
    }
    expect(firstDifference(results[1]!, results[0]!)).toBe(-1);
  });
});

describe("matmul/nn", () => {
  const cases = [
    { ...shape(1, 1, "bf16", 0), prior: "drop" },
    { ...shape(9, 7, "f32", 1, 0.5), prior: "add" },
    { ...shape(20, 33, "bf16", 3), prior: "rows" },
    { ...shape(72, 40, "f32", 8, 1.5), prior: "rows" },
    { ...shape(130, 65, "bf16", 17), prior: "add" },
    { ...shape(65, 130, "f32", 0), prior: "drop" },
  ] as const;
  it.each(cases)("$outFeatures → $inFeatures, $format, rank $rank, scale $scale, prior $prior", async (linear) => {
    const { inFeatures: k, outFeatures: n, format, rank, scale } = linear;
    const { gpu } = device;
    const weights = randomWeight(2, linear);
    const w = inputWeight(gpu, format, weights, n, k);
    for (const m of ROWS) {
      const random = seededNumbers(m);
      const [x, u, a, before, factors] = [m * n, m * rank, rank * k, m * k, m].map((length) => random.normals(length));
      const count = rowCount(gpu, m);
      const y = linear.prior === "drop" ? outputMatrix(gpu, count, k) : changedMatrix(gpu, count, before!, k);
      const prior: Prior = linear.prior === "rows" ? { rowScale: inputWords(gpu, factors!) } : linear.prior;
      const lora = rank > 0 ? { u: inputMatrix(gpu, count, u!, rank), a: constantMatrix(gpu, a!, rank, k) } : undefined;
      const commands = matmulNN(gpu, { count, x: inputMatrix(gpu, count, x!, n), w, y, scale, lora, prior });

      const [bits] = await run(gpu, commands, [y]);

      let expected: Numbers = reference.matmulNN(x!, weights, { m, n, k }).map((value) => scale * value);
      if (rank > 0) expected = reference.addScaled(expected, reference.matmulNN(u!, a!, { m, n: rank, k }));
      if (linear.prior === "add") expected = reference.addScaled(expected, before!);
      if (linear.prior === "rows") {
        expected = reference.addScaled(
          expected,
          before!.map((value, i) => value * factors![Math.floor(i / k)]!),
        );
      }
      expectRows(bits!, y, expected);
    }
  });

  it.each(["drop", "add", "rows"] as const)("sums over the parts of a weight, prior %s", async (kind) => {
    const linear = shape(65, 130, "f32", 3);
    const { inFeatures: k, outFeatures: n, rank } = linear;
    const m = 13;
    const random = seededNumbers(7);
    const weights = randomWeight(8, linear);
    const [x, u, a, before, factors] = [m * n, m * rank, rank * k, m * k, m].map((length) => random.normals(length));
    const results: Float32Array[] = [];
    for (const { gpu } of [device, small]) {
      const w = inputWeight(gpu, "f32", weights, n, k);
      const count = rowCount(gpu, m);
      const y = changedMatrix(gpu, count, before!, k);
      const prior: Prior = kind === "rows" ? { rowScale: inputWords(gpu, factors!) } : kind;
      const lora = { u: inputMatrix(gpu, count, u!, rank), a: constantMatrix(gpu, a!, rank, k) };
      const commands = matmulNN(gpu, { count, x: inputMatrix(gpu, count, x!, n), w, y, lora, prior });
      expect(commands.length).toBe(gpu === device.gpu ? 1 : 3);
      const [bits] = await run(gpu, commands, [y]);
      results.push(denseRows(bits!, y));
    }
    expect(relativeError(results[1]!, results[0]!)).toBeLessThan(1e-6);
  });
});

describe("matmul/tn", () => {
  const shapes = [
    { i: 1, j: 1 },
    { i: 3, j: 65 },
    { i: 130, j: 17 },
    { i: 8, j: 72 },
  ];
  it.each(shapes)("adds to ($i, $j)", async ({ i, j }) => {
    const { gpu } = device;
    for (const t of [0, ...ROWS]) {
      const random = seededNumbers(t + 1);
      const [p, q, before] = [t * i, t * j, i * j].map((length) => random.normals(length));
      const count = rowCount(gpu, t);
      const y = sumMatrix(gpu, before!, i, j);
      const commands = matmulTN(gpu, {
        count,
        p: inputMatrix(gpu, count, p!, i),
        q: inputMatrix(gpu, count, q!, j),
        y,
      });

      const [bits] = await run(gpu, commands, [y]);

      expectRows(bits!, y, reference.addScaled(reference.matmulTN(p!, q!, { t, i, j }), before!));
    }
  });
});

describe("shapes", () => {
  it("do not fit together: an error that names the kernel and what differs", () => {
    const { gpu } = device;
    const count = rowCount(gpu, 2);
    const matrix = (rows: number, cols: number) => constantMatrix(gpu, new Float32Array(rows * cols), rows, cols);
    const x = matrix(2, 5);
    expect(() => matmulNT(gpu, { count, x, w: matrix(3, 4), y: matrix(2, 3) })).toThrow(
      "internal: matmul/nt: W's columns are X's, but 4 is not 5",
    );
    expect(() => matmulNT(gpu, { count, x, w: matrix(3, 5), y: matrix(2, 4) })).toThrow("Y's columns are W's rows");
    expect(() => matmulNT(gpu, { count, x, w: matrix(3, 5), y: matrix(2, 3), residual: matrix(2, 4) })).toThrow(
      "R's columns are Y's",
    );
    expect(() => matmulNN(gpu, { count, x, w: matrix(4, 3), y: matrix(2, 3), prior: "drop" })).toThrow(
      "internal: matmul/nn: W's rows are X's columns, but 4 is not 5",
    );
    expect(() => matmulTN(gpu, { count, p: x, q: matrix(2, 3), y: matrix(5, 4) })).toThrow(
      "internal: matmul/tn: Y's columns are Q's, but 4 is not 3",
    );
  });
});
