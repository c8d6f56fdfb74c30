import { describe, expect, it } from "vitest";
import { smooth } from "../../src/report/browser/smoothing.ts";
import { createStore } from "../../src/report/browser/store.ts";
import { collectLines } from "../../src/report/lines.ts";
import type { RunRecord } from "../../src/train/records.ts";

const RECORDS: RunRecord[] = [
  { step: 1, loss: 0.7, kl: null },
  { step: 2, loss: null, kl: 0.1 },
  { step: 4, loss: Number.NaN, kl: 0.123456789 },
  { step: 5, loss: 0.5 },
];

describe("collectLines", () => {
  it("keeps a run's points, with null where a value is not finite", () => {
    const lines = collectLines();
    const [loss, kl] = [lines.add(0, RECORDS, "loss"), lines.add(0, RECORDS, "kl")];
    const { steps, series } = lines.page([]);
    expect(series[loss!]).toEqual({ run: 0, key: "loss", steps: 0, values: [0.7, null, null, 0.5] });
    expect(steps[0]).toEqual([1, 2, 4, 5]);
    expect(series[kl!]!.values).toEqual([null, 0.1, 0.1234568]);
    expect(steps[series[kl!]!.steps]).toEqual([1, 2, 4]);
  });

  it("has no series without a finite value, and one for what is asked for twice", () => {
    const lines = collectLines();
    expect(lines.add(0, RECORDS, "missing")).toBeNull();
    expect(lines.add(0, [{ step: 1, loss: null }], "loss")).toBeNull();
    expect(lines.add(1, RECORDS, "loss")).toBe(lines.add(1, RECORDS, "loss"));
    expect(lines.page([]).series).toHaveLength(1);
  });

  it("writes the steps that series share once", () => {
    const records = [1, 2, 3].map((step): RunRecord => ({ step, loss: step, grad_norm: step }));
    const lines = collectLines();
    lines.add(0, records, "loss");
    lines.add(0, records, "grad_norm");
    expect(lines.page([]).steps).toEqual([[1, 2, 3]]);
  });

  it("thins long series to their ends, highs, lows and gaps", () => {
    const records = Array.from({ length: 10_000 }, (_, i): RunRecord => ({ step: i + 1, loss: Math.sin(i / 100) }));
    records[4567] = { step: 4568, loss: 9 };
    records[6789] = { step: 6790, loss: -9 };
    records[7777] = { step: 7778, loss: null };
    const lines = collectLines(500);
    lines.add(0, records, "loss");
    const { steps, series } = lines.page([]);
    const kept = steps[0]!;
    expect(lines.isThinned()).toBe(true);
    expect(kept.length).toBeLessThanOrEqual(500);
    expect(kept.length).toBeGreaterThan(200);
    expect(kept).toEqual([...kept].sort((a, b) => a - b));
    expect(kept).toEqual(expect.arrayContaining([1, 4568, 6790, 7778, 10_000]));
    expect(series[0]!.values[kept.indexOf(4568)]).toBe(9);
    expect(series[0]!.values[kept.indexOf(7778)]).toBeNull();
  });
});

describe("the store of a page", () => {
  const store = () =>
    createStore({
      steps: [[1, 2]],
      series: [
        { run: 0, key: "loss", steps: 0, values: [0.7, 0.6] },
        { run: 0, key: "kl", steps: 0, values: [0, 0.1] },
        { run: 1, key: "loss", steps: 0, values: [0.7, 0.5] },
      ],
    });

  it("adds what a run records, to the series that there are", () => {
    const { series, add } = store();
    expect(add({ step: 3, loss: 0.4, kl: null, other: 1 }, 0)).toEqual([0, 1]);
    expect(series[0]).toMatchObject({ steps: [1, 2, 3], values: [0.7, 0.6, 0.4] });
    expect(series[1]).toMatchObject({ steps: [1, 2, 3], values: [0, 0.1, null] });
    expect(series[2]!.steps).toEqual([1, 2]);
  });

  it("goes back with a run that continues from a checkpoint", () => {
    const { series, add } = store();
    add({ step: 3, loss: 0.4 }, 0);
    add({ step: 2, loss: 0.65 }, 0);
    expect(series[0]).toMatchObject({ steps: [1, 2], values: [0.7, 0.65] });
  });

  it("ignores what is no record", () => {
    const { add } = store();
    expect(add({ loss: 1 }, 0)).toEqual([]);
    expect(add({ step: 3, loss: 1 }, 7)).toEqual([]);
  });
});

describe("smooth", () => {
  it("keeps a constant, from its first value on, and gaps", () => {
    const smoothed = smooth([3, null, 3, 3], 0.9);
    expect(smoothed[1]).toBeNull();
    for (const i of [0, 2, 3]) expect(smoothed[i]).toBeCloseTo(3, 12);
  });

  it("weighs the past", () => {
    // (0.5·0.5·1 + 0.5·3) / (1 − 0.25)
    expect(smooth([1, 3], 0.5)[1]).toBeCloseTo(7 / 3, 12);
    expect(smooth([1, 3], 0)).toEqual([1, 3]);
  });
});
