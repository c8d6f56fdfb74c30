import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parseConfig } from "../../src/config/load.ts";
import type { Config } from "../../src/config/schema.ts";
import { startAdapter } from "../../src/train/start-adapter.ts";
import { parseLlamaConfig } from "../../src/weights/llama-config.ts";
import { type LoraAdapter, readPeftAdapter, writePeftAdapter } from "../../src/weights/peft-adapter.ts";
import { PROJECTIONS, projectionSize } from "../../src/weights/projections.ts";
import { inputErrorOf, TINY_CONFIG, temporaryFolder } from "../weights/fixtures.ts";

/** Saved by PEFT: r 2, alpha 6, on q_proj, v_proj and down_proj of 11 layers. */
const FIXTURE = new URL("../fixtures/peft-tiny", import.meta.url).pathname;
const WEIGHTS = "adapter_model.safetensors";
const MODEL = modelOf({});

function modelOf(changes: object) {
  return parseLlamaConfig(JSON.stringify({ ...TINY_CONFIG, num_hidden_layers: 11, ...changes }), "config.json");
}

function configOf(
  init: string | null,
  lora = "{r: 2, lora_alpha: 6, target_modules: [v_proj, down_proj, q_proj]}",
): Config {
  const initLine = init === null ? "" : `init_adapter: ${JSON.stringify(init)}\n`;
  return parseConfig(`model: m\ndataset: d.jsonl\nlora: ${lora}\n${initLine}`, "c.yaml");
}

/** The fixture's adapter with changes, written to a folder of its own. */
async function changedAdapter(change: (adapter: LoraAdapter) => LoraAdapter): Promise<string> {
  const folder = join(await temporaryFolder(), "adapter");
  await mkdir(folder);
  await writePeftAdapter(folder, change(await readPeftAdapter(FIXTURE, MODEL)), MODEL, "tiny");
  return folder;
}

describe("an adapter from init_adapter", () => {
  it("is taken as it is, whatever the order of the config's target_modules", async () => {
    const { adapter, isZero, sha256 } = await startAdapter(configOf(FIXTURE), MODEL);
    expect(adapter.layers).toEqual((await readPeftAdapter(FIXTURE, MODEL)).layers);
    expect(isZero).toBe(false);
    const bytes = await readFile(join(FIXTURE, WEIGHTS));
    expect(sha256).toBe(createHash("sha256").update(bytes).digest("hex"));
  });

  it("starts at the reference where every B is 0, and only there", async () => {
    /** Every B is `value`, but for the last element of the last one. */
    const withB = (value: number, last: number) =>
      changedAdapter((adapter) => {
        const layers = adapter.layers.map((pairs) =>
          Object.fromEntries(Object.entries(pairs).map(([name, { a, b }]) => [name, { a, b: b.map(() => value) }])),
        );
        layers.at(-1)!.down_proj!.b.set([last], layers.at(-1)!.down_proj!.b.length - 1);
        return { ...adapter, layers };
      });
    const startsAtZero = async (folder: string) => (await startAdapter(configOf(folder), MODEL)).isZero;
    expect(await startsAtZero(await withB(0, 0))).toBe(true);
    expect(await startsAtZero(await withB(-0, 0))).toBe(true);
    expect(await startsAtZero(await withB(0, 1e-30))).toBe(false);
  });

  it.each([
    ["{r: 4, lora_alpha: 6, target_modules: [q_proj, v_proj, down_proj]}", "r 2 (the config's lora.r is 4)"],
    [
      "{r: 2, lora_alpha: 6.5, target_modules: [q_proj, v_proj, down_proj]}",
      "lora_alpha 6 (the config's lora.lora_alpha is 6.5)",
    ],
    [
      "{r: 2, lora_alpha: 6, target_modules: [v_proj, q_proj]}",
      "target_modules [q_proj, v_proj, down_proj] (the config's are [q_proj, v_proj])",
    ],
    [
      "{r: 8, lora_alpha: 16}",
      "r 2 (the config's lora.r is 8); lora_alpha 6 (the config's lora.lora_alpha is 16); " +
        `target_modules [q_proj, v_proj, down_proj] (the config's are [${PROJECTIONS.join(", ")}])`,
    ],
  ])("is refused where it is not like lora: %s", async (lora, differences) => {
    expect(await inputErrorOf(() => startAdapter(configOf(FIXTURE, lora), MODEL))).toBe(
      `init_adapter ${FIXTURE} must be like the config's lora, found ${differences}; change the config`,
    );
  });

  it("is refused where it scales by √r", async () => {
    const folder = await changedAdapter((adapter) => ({ ...adapter, useRslora: true }));
    expect(await inputErrorOf(() => startAdapter(configOf(folder), MODEL))).toContain(
      "found use_rslora, which training does not support; change the config",
    );
  });

  it("is refused where its shapes are not the model's, by tensor", async () => {
    const message = await inputErrorOf(() => startAdapter(configOf(FIXTURE), modelOf({ intermediate_size: 5 })));
    expect(message).toContain(join(FIXTURE, WEIGHTS));
    expect(message).toContain('"base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"');
    expect(message).toMatch(/\[2, 5\].*\[2, 6\]|\[2, 6\].*\[2, 5\]/s);
  });

  it("is refused where the model has more or fewer layers", async () => {
    const missing = await inputErrorOf(() => startAdapter(configOf(FIXTURE), modelOf({ num_hidden_layers: 12 })));
    expect(missing).toContain("missing");
    expect(missing).toContain("layers.11.mlp.down_proj.lora_A.weight");
    const extra = await inputErrorOf(() => startAdapter(configOf(FIXTURE), modelOf({ num_hidden_layers: 10 })));
    expect(extra).toContain("layers.10.mlp.down_proj.lora_A.weight");
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])("is refused where it holds %f, by tensor", async (value) => {
    // Our own writer would refuse it: put the bytes into a file that it wrote.
    const folder = await changedAdapter((adapter) => adapter);
    const bytes = await readFile(join(folder, WEIGHTS));
    bytes.writeFloatLE(value, bytes.length - 4);
    await writeFile(join(folder, WEIGHTS), bytes);
    expect(await inputErrorOf(() => startAdapter(configOf(folder), MODEL))).toMatch(
      new RegExp(`"base_model\\.[\\w.]+lora_[AB]\\.weight" must hold finite values, found ${value} at element \\d+`),
    );
  });

  it("is refused where there is none", async () => {
    const nowhere = join(await temporaryFolder(), "nowhere");
    expect(await inputErrorOf(() => startAdapter(configOf(nowhere), MODEL))).toContain(nowhere);
    expect(await inputErrorOf(() => startAdapter(configOf(nowhere.replace("nowhere", "")), MODEL))).toContain(
      "must be a PEFT adapter folder with adapter_config.json, found none",
    );
  });
});

describe("a fresh adapter", () => {
  it("has A within ±1/√in on the target modules alone, and B of zeros", async () => {
    const { adapter, isZero, sha256 } = await startAdapter(configOf(null), MODEL);
    expect({ isZero, sha256 }).toEqual({ isZero: true, sha256: null });
    expect(adapter).toMatchObject({
      r: 2,
      loraAlpha: 6,
      useRslora: false,
      targetModules: ["q_proj", "v_proj", "down_proj"],
    });
    expect(adapter.layers.length).toBe(11);
    for (const layer of adapter.layers) {
      expect(Object.keys(layer).sort()).toEqual(["down_proj", "q_proj", "v_proj"]);
      for (const projection of adapter.targetModules) {
        const { a, b } = layer[projection]!;
        const { inFeatures, outFeatures } = projectionSize(MODEL, projection);
        expect(a.length).toBe(2 * inFeatures);
        expect(b).toEqual(new Float32Array(outFeatures * 2));
        expect(Math.max(...a.map(Math.abs))).toBeLessThanOrEqual(1 / Math.sqrt(inFeatures));
        expect(new Set(a).size).toBe(a.length);
      }
    }
  });

  it("depends on the seed", async () => {
    const drawn = async (seed: number) => (await startAdapter({ ...configOf(null), seed }, MODEL)).adapter.layers;
    expect(await drawn(3)).toEqual(await drawn(3));
    expect(await drawn(4)).not.toEqual(await drawn(3));
  });
});
