import { describe, expect, it, type TestContext } from "vitest";
import { RowCount } from "../../src/gpu/count.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { candidateShapes, caseName, decidedTiles, describeShape, shapeOf } from "../../src/ops/fragment-shapes.ts";
import { tileOf } from "../../src/ops/fragments.ts";
import { createHalfRows, packedRows } from "../../src/ops/half-rows.ts";
import { matmulNT } from "../../src/ops/matmul.ts";
import { createMatrix, createWeight } from "../../src/ops/matrix.ts";
import { tuneProducts } from "../../src/ops/tune.ts";
import { useDevice } from "../device.ts";

// The choice between a product's shapes, by a clock that says what the test wants. A device without subgroup matrices
// (SwiftShader) shows these tests as skipped.

const device = useDevice();

function requireMatrices({ fragments }: Gpu, { skip }: TestContext): void {
  skip(!fragments, "the device has no subgroup matrices with f16 factors");
}

/** A clock by which each run takes what is next in the list, and how many were asked of it. */
function scriptedClock(durationsMs: readonly number[]) {
  let [now, readings] = [0, 0];
  return {
    now: () => {
      if (readings++ % 2 === 1) now += durationsMs[(readings - 2) / 2] ?? Number.NaN;
      return now;
    },
    runs: () => readings / 2,
  };
}

/** What the clock says where each candidate has a time: warm-up, first run, and samples in turn. All longer than a sample. */
function scriptOf(timesMs: readonly number[], givenUp: readonly number[] = []): number[] {
  const measured = timesMs.filter((_, i) => !givenUp.includes(i));
  return [...timesMs.flatMap((ms) => [1000, ms]), ...measured, ...measured, ...measured];
}

const PRODUCTS = [
  { kind: "nt", m: 64, n: 128, k: 72 },
  { kind: "nn", m: 64, n: 8, k: 72 },
  { kind: "tn", m: 72, n: 8, k: 512 },
  { kind: "tn", m: 8, n: 72, k: 512 },
] as const;

describe.each(PRODUCTS)("$kind, $m x $n x $k", (sizes) => {
  it("gets the fastest candidate", { timeout: 300_000 }, async (context) => {
    const { gpu } = device;
    requireMatrices(gpu, context);
    const shapes = candidateShapes(gpu.fragments!, sizes);
    const name = caseName(sizes);
    const liveBytes = gpu.memory.liveBytes;
    for (const best of shapes.keys()) {
      const times = shapes.map((_, i) => (i === best ? 20 : 30 + i));
      const clock = scriptedClock(scriptOf(times));
      expect(await tuneProducts(gpu, [name], clock.now)).toEqual([{ name, ms: times, variant: best }]);
      expect(clock.runs()).toBe(5 * shapes.length);
      expect(shapeOf(gpu, sizes)).toEqual(shapes[best]);
      expect(decidedTiles(gpu)[name]).toBe(describeShape(shapes[best]!));
    }
    expect(gpu.memory.liveBytes).toBe(liveBytes);
  });
});

const WIDE = PRODUCTS[0];

it("takes the shortest of the samples, and repeats what is short", async (context) => {
  const { gpu } = device;
  requireMatrices(gpu, context);
  const shapes = candidateShapes(gpu.fragments!, WIDE);
  // The first is repeated 2 and then 4 times until a sample lasts 5 ms; its samples are of 4.
  const rest = shapes.length - 1;
  const others = new Array<number>(rest).fill(6);
  const script = [1, 3, 4, 8, ...others.flatMap((ms) => [1, ms]), 16, ...others, 8, ...others, 12, ...others];
  const clock = scriptedClock(script);
  const [tuned] = await tuneProducts(gpu, [caseName(WIDE)], clock.now);
  expect(tuned).toMatchObject({ ms: [2, ...others], variant: 0 });
  expect(clock.runs()).toBe(script.length);
});

it("gives up a candidate that is hopeless, but none whose run is too short to tell", async (context) => {
  const { gpu } = device;
  requireMatrices(gpu, context);
  const shapes = candidateShapes(gpu.fragments!, WIDE);
  const slow = shapes.map((_, i) => (i === 1 ? 61 : 20));
  const [hopeless] = await tuneProducts(gpu, [caseName(WIDE)], scriptedClock(scriptOf(slow, [1])).now);
  expect(hopeless).toMatchObject({ ms: slow.map((ms) => (ms > 20 ? null : ms)), variant: 0 });

  const bearable = slow.map((ms) => Math.min(ms, 60));
  const [measured] = await tuneProducts(gpu, [caseName(WIDE)], scriptedClock(scriptOf(bearable)).now);
  expect(measured).toMatchObject({ ms: bearable, variant: 0 });
});

it("ends with a clock that stands still", async (context) => {
  const { gpu } = device;
  requireMatrices(gpu, context);
  const [tuned] = await tuneProducts(gpu, ["matmul nn 1 x 8 x 8"], () => 0);
  expect(tuned?.variant).toBe(0);
  expect(new Set(tuned?.ms)).toEqual(new Set([0]));
});

it("decides what later products ask for, by a real clock, and says how far it is", {
  timeout: 300_000,
}, async (context) => {
  const { gpu } = device;
  requireMatrices(gpu, context);
  const { m, n, k } = { m: 96, n: 136, k: 72 };
  const { buffers } = gpu.collect(() => {
    const count = new RowCount(gpu, "rows", m);
    count.set(m);
    const product = () => {
      const packed = packedRows(createHalfRows(gpu, "half", m, k), m, k);
      const [x, y] = [createMatrix(gpu, "x", m, k), createMatrix(gpu, "y", m, n)];
      const w = createWeight(gpu, "w", "f16", n, k);
      const [command] = matmulNT(gpu, { count, x, packed, w, y });
      return command!.kind === "dispatch" ? command!.workgroups() : null;
    };
    product();
    const name = caseName({ kind: "nt", m, n, k });
    expect(gpu.decisions.open).toContain(name);
    for (const [variant, shape] of candidateShapes(gpu.fragments!, { kind: "nt", m, n, k }).entries()) {
      gpu.decisions.decide(name, variant);
      const { tileM, tileN } = tileOf(shape);
      expect(product()).toEqual([Math.ceil(n / tileN), Math.ceil(m / tileM), 1]);
    }
  });
  await gpu.pipelines.ready();
  for (const buffer of buffers) gpu.release(buffer);

  const progress: (readonly number[])[] = [];
  const measured = PRODUCTS.slice(1, 3);
  const names = measured.map(caseName);
  const results = await tuneProducts(
    gpu,
    names,
    () => performance.now(),
    (done, total) => progress.push([done, total]),
  );
  expect(progress).toEqual([
    [0, 2],
    [1, 2],
  ]);
  for (const [i, { name, ms, variant }] of results.entries()) {
    expect(name).toBe(names[i]);
    expect(ms).toHaveLength(candidateShapes(gpu.fragments!, measured[i]!).length);
    expect(ms[variant]).toBe(Math.min(...ms.filter((each) => each !== null)));
    expect(ms[variant]).toBeGreaterThan(0);
    expect(gpu.decisions.made.get(name)).toBe(variant);
  }
});

it("leaves no buffers behind when it is stopped, or is given what is no product", async (context) => {
  const { gpu } = device;
  requireMatrices(gpu, context);
  const liveBytes = gpu.memory.liveBytes;
  const stop = () => {
    throw new Error("stopped");
  };
  await expect(tuneProducts(gpu, [caseName(WIDE)], stop)).rejects.toThrow("stopped");
  await expect(tuneProducts(gpu, ["attention"], () => 0)).rejects.toThrow("attention is no product's case");
  expect(gpu.memory.liveBytes).toBe(liveBytes);
});
