import { describe, expect, it } from "vitest";
import { heatMapOf } from "../../src/report/heat-map.ts";
import type { RunResult } from "../../src/sweep/results.ts";
import { fakeSweep, gridSweep, pendingRun } from "./sweeps.ts";

function run(settings: RunResult["settings"], loss: number | null, change: Partial<RunResult> = {}): RunResult {
  const record = { step: 1, eval_loss: loss };
  return { ...pendingRun("run", settings, "done"), evalRecords: [record], final: record, best: record, ...change };
}

describe("heatMapOf", () => {
  it("is over beta and the learning rate where both are swept, in whatever order", () => {
    const map = heatMapOf({ ...gridSweep(), keys: ["seed", "learning_rate", "beta"] });
    expect([map?.rowKey, map?.columnKey]).toEqual(["beta", "learning_rate"]);
    expect(map?.rows.map(({ label }) => label)).toEqual(["0.1", "0.3", "0.5"]);
    expect(map?.columns.map(({ label }) => label)).toEqual(["1e-6", "1e-5", "1e-4", "0.001"]);
    expect(map?.cells[2]?.[3], "a run that failed").toBeNull();
  });

  it("is over the first two settings that are numbers and take several values", () => {
    const runs = [1, 2].flatMap((r) =>
      [0, 0.1].map((decay) =>
        run(
          { "lora.target_modules": ["q_proj"], seed: 1, "lora.r": r, weight_decay: decay, optim: "adamw" },
          r + decay,
        ),
      ),
    );
    const map = heatMapOf(fakeSweep(runs, ["lora.target_modules", "seed", "lora.r", "optim", "weight_decay"]));
    expect([map?.rowKey, map?.columnKey]).toEqual(["lora.r", "weight_decay"]);
    expect(map?.cells.map((row) => row.map((cell) => cell?.mean))).toEqual([
      [1, 1.1],
      [2, 2.1],
    ]);
    expect(map?.cells.flat().map((cell) => cell?.shade)).toEqual([8, 5, 3, 0]);
  });

  it("takes the mean of the runs in a cell and counts them, without those that have no number", () => {
    const settings = { beta: 0.1, learning_rate: 1 };
    const runs = [
      run(settings, 0.4),
      run(settings, 0.6),
      run(settings, null),
      run(settings, 9, { status: "failed" }),
      run({ beta: 0.2, learning_rate: 2 }, 0.7),
    ];
    const cells = heatMapOf(fakeSweep(runs))!.cells;
    expect(cells[0]![0]).toEqual({ mean: 0.5, runs: 2, shade: 8 });
    expect(cells[0]![1]).toBeNull();
    expect(cells[1]![1]).toEqual({ mean: 0.7, runs: 1, shade: 0 });
  });

  it("has the highest value as the best where higher is better", () => {
    const runs = [run({ beta: 1, learning_rate: 1 }, 0.2), run({ beta: 2, learning_rate: 2 }, 0.8)];
    const map = heatMapOf({ ...fakeSweep(runs), metric: { name: "eval_loss", isLowerBetter: false } });
    expect(map?.cells[1]?.[1]?.shade).toBe(8);
  });

  it("puts values drawn at random into ranges, by ratio where they span decades, and loses no run", () => {
    const runs = Array.from({ length: 200 }, (_, i) =>
      run({ beta: 0.1 + ((i * 0.618) % 1) * 0.4, learning_rate: 1e-7 * 10 ** (((i * 0.755) % 1) * 4) }, 0.3 + i / 1000),
    );
    const map = heatMapOf(fakeSweep(runs))!;
    expect(map.rows).toHaveLength(8);
    expect(map.columns).toHaveLength(8);
    const counted = map.cells.flat().reduce((sum, cell) => sum + (cell?.runs ?? 0), 0);
    expect(counted).toBe(200);
    for (const { low, high } of map.columns) expect(high / low).toBeLessThan(10 ** (4 / 8) * 1.0001);
    for (const { low, high } of map.rows) expect(high - low).toBeLessThan(0.4 / 8 + 1e-9);
  });

  it.each([
    ["one run", [run({ beta: 0.1, learning_rate: 1 }, 0.5)]],
    ["one value of a setting", [run({ beta: 0.1, learning_rate: 1 }, 0.5), run({ beta: 0.2, learning_rate: 1 }, 0.4)]],
    [
      "no results",
      [pendingRun("a", { beta: 0.1, learning_rate: 1 }), pendingRun("b", { beta: 0.2, learning_rate: 2 })],
    ],
    [
      "settings that are no numbers",
      [run({ beta: "a", learning_rate: [1] }, 1), run({ beta: "b", learning_rate: 2 }, 2)],
    ],
    ["no runs", []],
  ])("is not there for %s", (_, runs) => expect(heatMapOf(fakeSweep(runs))).toBeNull());

  it("has one shade where all is equal", () => {
    const runs = [run({ beta: 0.1, learning_rate: 1 }, 0.5), run({ beta: 0.2, learning_rate: 2 }, 0.5)];
    const cells = heatMapOf(fakeSweep(runs))!.cells.flat();
    expect(cells.map((cell) => cell?.shade)).toEqual([8, undefined, undefined, 8]);
  });
});
