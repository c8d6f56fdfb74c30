import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { EXPORT_DTYPES, type ExportDtype } from "../../src/config/names.ts";
import { FILE_DTYPE } from "../../src/export/dtypes.ts";
import { type FidelityReport, formatFidelity } from "../../src/export/fidelity.ts";
import { mergeModel } from "../../src/export/merge.ts";
import { FLOAT_DTYPES } from "../../src/weights/half.ts";
import { projectionName } from "../../src/weights/llama-tensors.ts";
import type { ModelFolder } from "../../src/weights/model-folder.ts";
import { type LoraAdapter, readPeftAdapter } from "../../src/weights/peft-adapter.ts";
import { useDevice } from "../device.ts";
import { readGoldenJson } from "../golden/read.ts";
import { rootPath } from "../model/golden-model.ts";
import { fidelityOf, roundTo } from "../reference/merge.ts";
import { temporaryFolder } from "../weights/fixtures.ts";
import {
  eachModule,
  ODD_CONFIG,
  open,
  openModel,
  randomAdapter,
  randomWeights,
  storedTensor,
  updateOf,
} from "./fixtures.ts";

const device = useDevice();

async function fidelity(base: ModelFolder, adapter: LoraAdapter, dtype: ExportDtype): Promise<FidelityReport> {
  const outputFolder = join(await temporaryFolder(), "merged");
  return (await mergeModel({ gpu: device.gpu, base, adapter, outputFolder, dtype })).fidelity;
}

interface GoldenModule {
  readonly weight_norm: number;
  readonly delta_norm: number;
  readonly kept_bfloat16: number;
  readonly changed_bfloat16: number;
  readonly kept_float16: number;
  readonly changed_float16: number;
}

interface GoldenMerges {
  readonly cases: Record<
    string,
    { readonly model: string; readonly adapter: string; readonly modules: Record<string, GoldenModule> }
  >;
}

const { cases } = readGoldenJson<GoldenMerges>("merge/merge.json");

async function goldenFidelity(name: string, dtype: ExportDtype): Promise<FidelityReport> {
  const { model, adapter } = cases[name]!;
  const base = await open(rootPath(model));
  return fidelity(base, await readPeftAdapter(rootPath(adapter), base.config), dtype);
}

describe("what torch measured on PEFT's merges", () => {
  for (const [name, { modules }] of Object.entries(cases)) {
    it.each(["bfloat16", "float16"] as const)(`${name} in %s`, async (dtype) => {
      const report = await goldenFidelity(name, dtype);
      expect(report.modules.length).toBe(Object.keys(modules).length);
      for (const module of report.modules) {
        const golden = modules[projectionName(module.layer, module.projection)]!;
        const near = (actual: number | null | undefined, expected: number) => {
          expect(Math.abs(actual! / expected - 1)).toBeLessThan(1e-3);
        };
        near(module.update_norm, golden.delta_norm);
        near(module.weight_norm, golden.weight_norm);
        near(module.kept, golden[`kept_${dtype}`]);
        near(module.float16?.kept, golden.kept_float16);
        expect(module.changed).toBeCloseTo(golden[`changed_${dtype}`], 5);
      }
    });
  }
});

describe.each(FLOAT_DTYPES)("of a %s base", (from) => {
  it.each(EXPORT_DTYPES)("in %s: the sums of float64, by module, projection and over all", async (dtype) => {
    const { values, tensors } = randomWeights(ODD_CONFIG, from);
    const base = await openModel(tensors);
    const adapter = randomAdapter(base.config, undefined, 0.01);
    const report = await fidelity(base, adapter, dtype);

    const everything = { w: [] as number[], update: [] as number[], upW: [] as number[], upUpdate: [] as number[] };
    eachModule(adapter, (name, layer, projection) => {
      const w = Array.from(values.get(name)!, (value) => roundTo(from, value));
      const update = [...updateOf(adapter, base.config, layer, projection)];
      everything.w.push(...w);
      everything.update.push(...update);
      if (projection === "up_proj") {
        everything.upW.push(...w);
        everything.upUpdate.push(...update);
      }
      const module = report.modules.find((found) => found.layer === layer && found.projection === projection)!;
      expect(module.update_norm).toBeCloseTo(Math.hypot(...update), 6);
      expect(module.weight_norm).toBeCloseTo(Math.hypot(...w), 4);
      expectFidelity(module, fidelityOf(FILE_DTYPE[dtype], w, update));
      expectFidelity(module.float16, fidelityOf("F16", w, update));
    });
    expectFidelity(report.overall, fidelityOf(FILE_DTYPE[dtype], everything.w, everything.update));
    expectFidelity(report.projections.up_proj!, fidelityOf(FILE_DTYPE[dtype], everything.upW, everything.upUpdate));
    expect(report.modules.length).toBe(14);
  });
});

function expectFidelity(
  actual: { fidelity: number | null; kept: number | null; error: number | null } | null,
  expected: { fidelity: number; kept: number; error: number },
): void {
  expect(actual!.fidelity).toBeCloseTo(expected.fidelity, 4);
  expect(actual!.kept! / expected.kept).toBeCloseTo(1, 4);
  expect(Math.abs(actual!.error! - expected.error)).toBeLessThan(1e-5 + 1e-4 * expected.error);
}

describe("fidelity", () => {
  it("is 1 and gives no advice where the update is large", async () => {
    const { overall, advice } = await goldenFidelity("f16-one-kv-visible", "bfloat16");
    expect(overall.fidelity).toBeGreaterThan(0.9999);
    expect(advice).toBeNull();
  });

  it("is 0 where the update is lost, with advice", async () => {
    const { overall, advice } = await goldenFidelity("gqa-llama3-tiny", "bfloat16");
    expect(overall.fidelity).toBeLessThan(0.01);
    expect(overall.kept).toBeCloseTo(0.006, 3);
    expect(advice).toBe(
      "rounding to bfloat16 lost 100% of what was learnt: the merged model stays close to the base; " +
        "export in float32, keep the adapter apart and load it beside the base, or train with a larger learning rate",
    );
  });

  it("is 0 where an update is drowned by whole steps, though 23 times as much is kept along it", async () => {
    const { overall, advice } = await goldenFidelity("f16-one-kv-tiny", "bfloat16");
    expect(overall.kept).toBeGreaterThan(23);
    expect(overall.error).toBeGreaterThan(overall.kept!);
    expect(overall.fidelity).toBe(0);
    expect(advice).toMatch(/^rounding to bfloat16 moves the weights \S+ times as far as training did, and drowns/);
  });

  it("is 0 where a float32 base hides the loss: in the mean all is kept, of single weights nothing", async () => {
    const config = { ...ODD_CONFIG, hidden_size: 360, intermediate_size: 200 };
    const base = await openModel(randomWeights(config, "F32").tensors, config);
    const { overall } = await fidelity(base, randomAdapter(base.config, undefined, 0.002), "bfloat16");
    expect(Math.abs(overall.kept! - 1)).toBeLessThan(0.05);
    expect(overall.error).toBeGreaterThan(2);
    expect(overall.fidelity).toBe(0);
  });

  it("advises float16 where that keeps more", async () => {
    const base = await openModel(randomWeights(ODD_CONFIG, "BF16").tensors);
    const report = await fidelity(base, randomAdapter(base.config, undefined, 0.005), "bfloat16");
    expect(report.overall.fidelity).toBeLessThan(0.75);
    expect(report.overall.float16!.fidelity).toBeGreaterThan(0.75);
    expect(report.advice).toContain(
      `; export in float16 (fidelity ${report.overall.float16!.fidelity.toFixed(3)}), export in`,
    );
    const inFloat16 = await fidelity(base, randomAdapter(base.config, undefined, 0.005), "float16");
    expect(inFloat16.overall.fidelity).toBe(report.overall.float16!.fidelity);
    expect(inFloat16.advice).toBeNull();
  });

  it.each([1e-12, 1e-15])("is measured for an update of a deviation of %d squared", async (deviation) => {
    const base = await openModel(randomWeights(ODD_CONFIG, "BF16").tensors);
    const adapter = randomAdapter(base.config, undefined, deviation);
    const { overall } = await fidelity(base, adapter, "bfloat16");
    const update: number[] = [];
    eachModule(adapter, (_, layer, projection) => update.push(...updateOf(adapter, base.config, layer, projection)));
    expect(overall.update_norm! / Math.hypot(...update)).toBeCloseTo(1, 5);
    expect(overall).toMatchObject({ fidelity: 0, kept: 0, error: 1, changed: 0 });
  });

  it("is null where the adapter changes nothing, and the base's bytes stay", async () => {
    const base = await openModel(randomWeights(ODD_CONFIG, "BF16").tensors);
    const adapter = randomAdapter(base.config);
    for (const layer of adapter.layers) for (const factors of Object.values(layer)) factors.b.fill(0);
    const report = await fidelity(base, adapter, "bfloat16");
    expect(report.overall).toMatchObject({ fidelity: null, kept: null, error: null, changed: 0, float16: null });
    expect(formatFidelity(report)).toEqual([
      "merge: the adapter changes nothing, B·A is 0 in every module: the merged model is the base",
    ]);
  });

  it("has no estimate for float16 where the base lies beyond it", async () => {
    const { values, tensors } = randomWeights(ODD_CONFIG, "BF16");
    const name = projectionName(0, "q_proj");
    values.get(name)![3] = 1e5;
    const wide = storedTensor("BF16", tensors[name]!.shape, values.get(name)!);
    const base = await openModel({ ...tensors, [name]: wide });
    const report = await fidelity(base, randomAdapter(base.config), "bfloat16");
    expect(report.overall.float16).toBeNull();
    expect(report.overall.fidelity).toBeGreaterThan(0.9);
    expect(report.projections.k_proj!.float16!.fidelity).toBeGreaterThan(0.9);
    expect(formatFidelity(report).at(-1)).toMatch(/^ {2}all .* -$/);
  });
});

it("is shown as a table", async () => {
  expect(formatFidelity(await goldenFidelity("gqa-llama3-visible", "bfloat16"))).toEqual([
    "merge fidelity in bfloat16 (1: the update arrived whole, 0: it is lost in rounding)",
    "             fidelity   kept  error  in float16",
    "  q_proj        0.938  0.999  0.249       0.999",
    "  k_proj        0.935  0.997  0.254       0.999",
    "  v_proj        0.925  1.007  0.274       0.999",
    "  o_proj        0.872  0.979  0.358       0.998",
    "  gate_proj     0.937  0.998  0.252       0.999",
    "  up_proj       0.938  0.996  0.249       0.999",
    "  down_proj     0.881  0.985  0.346       0.998",
    "  all           0.924  0.995  0.276       0.999",
  ]);
  const lines = formatFidelity(await goldenFidelity("f16-one-kv-tiny", "float16"));
  expect(lines[1]).toBe("             fidelity   kept  error");
  expect(lines.at(-1)).toMatch(/^advice: rounding to float16 lost \d+% of what was learnt/);
});
