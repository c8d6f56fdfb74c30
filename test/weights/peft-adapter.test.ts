import { cp, readdir, readFile, rename, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { NonFiniteError } from "../../src/errors.ts";
import { encodeFloats, type FloatDtype, f16ToNumber, numberToF16 } from "../../src/weights/half.ts";
import { parseLlamaConfig } from "../../src/weights/llama-config.ts";
import { type LoraAdapter, readPeftAdapter, writePeftAdapter } from "../../src/weights/peft-adapter.ts";
import { formatPeftConfig, loraScale, parsePeftConfig } from "../../src/weights/peft-config.ts";
import { PROJECTIONS } from "../../src/weights/projections.ts";
import { inputErrorOf, type TestTensor, TINY_CONFIG, temporaryFolder, tensorFile } from "./fixtures.ts";

/** Saved by PEFT 0.21, see make.py there: q_proj, v_proj and down_proj of 11 layers, r = 2. */
const FIXTURE = new URL("../fixtures/peft-tiny", import.meta.url).pathname;
const CONFIG = parseLlamaConfig(JSON.stringify({ ...TINY_CONFIG, num_hidden_layers: 11 }), "config.json");
const WEIGHTS = "adapter_model.safetensors";
const NAME = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";

async function copyOfFixture(): Promise<string> {
  const folder = await temporaryFolder();
  await cp(FIXTURE, folder, { recursive: true });
  return folder;
}

/** The fixture's tensors by name, read without our reader. */
async function fixtureTensors(): Promise<Record<string, TestTensor>> {
  const bytes = await readFile(join(FIXTURE, WEIGHTS));
  const end = 8 + Number(bytes.readBigUInt64LE());
  const { __metadata__: _, ...header } = JSON.parse(bytes.subarray(8, end).toString());
  const tensors: Record<string, TestTensor> = {};
  for (const [name, info] of Object.entries(
    header as Record<string, TestTensor & { data_offsets: [number, number] }>,
  )) {
    const data = bytes.subarray(end + info.data_offsets[0], end + info.data_offsets[1]);
    tensors[name] = { dtype: info.dtype, shape: info.shape, data };
  }
  return tensors;
}

function floatsOf({ data }: TestTensor): Float32Array {
  return new Float32Array(Uint8Array.from(data).buffer);
}

describe("an adapter saved by PEFT", () => {
  test("is read value by value", async () => {
    const adapter = await readPeftAdapter(FIXTURE, CONFIG);
    expect(adapter).toMatchObject({
      r: 2,
      loraAlpha: 6,
      useRslora: false,
      targetModules: ["q_proj", "v_proj", "down_proj"],
    });
    expect(adapter.layers.length).toBe(11);
    const tensors = await fixtureTensors();
    for (const [layer, pairs] of adapter.layers.entries()) {
      expect(Object.keys(pairs)).toEqual(["q_proj", "v_proj", "down_proj"]);
      for (const projection of adapter.targetModules) {
        const module = `base_model.model.model.layers.${layer}.${projection === "down_proj" ? "mlp" : "self_attn"}.${projection}`;
        expect(pairs[projection]!.a).toEqual(floatsOf(tensors[`${module}.lora_A.weight`]!));
        expect(pairs[projection]!.b).toEqual(floatsOf(tensors[`${module}.lora_B.weight`]!));
      }
    }
  });

  test("is written again to the same bytes, weights and config", async () => {
    const adapter = await readPeftAdapter(FIXTURE, CONFIG);
    const folder = join(await temporaryFolder(), "new", "adapter");
    const sha256Hex = await writePeftAdapter(folder, adapter, CONFIG, "tiny");
    expect(sha256Hex).toBe(adapter.sha256Hex);
    expect((await readdir(folder)).sort()).toEqual(["adapter_config.json", WEIGHTS]);
    for (const name of ["adapter_config.json", WEIGHTS]) {
      expect((await readFile(join(folder, name))).equals(await readFile(join(FIXTURE, name))), name).toBe(true);
    }
  });

  test.each<FloatDtype>(["F16", "BF16"])("is widened from %s", async (dtype) => {
    const folder = await copyOfFixture();
    const tensors = await fixtureTensors();
    for (const [name, tensor] of Object.entries(tensors)) {
      tensors[name] = { ...tensor, dtype, data: encodeFloats(dtype, floatsOf(tensor)) };
    }
    await writeFile(join(folder, WEIGHTS), tensorFile(tensors));
    const exact = await readPeftAdapter(FIXTURE, CONFIG);
    const adapter = await readPeftAdapter(folder, CONFIG);
    const [found, expected] = [adapter.layers[10]!.q_proj!.a, exact.layers[10]!.q_proj!.a];
    found.forEach((value, i) => {
      const error = Math.abs(value - expected[i]!) / Math.abs(expected[i]!);
      expect(error).toBeLessThanOrEqual(dtype === "F16" ? 2 ** -11 : 2 ** -8);
    });
    if (dtype === "F16") expect([...found]).toEqual([...expected].map((value) => f16ToNumber(numberToF16(value))));
  });
});

describe("an adapter of our own", () => {
  test("all seven modules, rank-stabilized, with a scale that is not a whole number, come back", async () => {
    const config = parseLlamaConfig(JSON.stringify(TINY_CONFIG), "config.json");
    const adapter = makeAdapter(3, 2);
    const folder = await temporaryFolder();
    await writePeftAdapter(folder, { ...adapter, useRslora: true, loraAlpha: 0.5 }, config, "a/b");
    const found = await readPeftAdapter(folder, config);
    expect(found).toMatchObject({ r: 3, loraAlpha: 0.5, useRslora: true, targetModules: PROJECTIONS });
    expect(found.layers).toEqual(adapter.layers);
    expect(loraScale(found)).toBe(0.5 / Math.sqrt(3));
    expect(loraScale({ ...found, useRslora: false })).toBe(0.5 / 3);
  });

  test("values that are not finite are never written", async () => {
    const config = parseLlamaConfig(JSON.stringify(TINY_CONFIG), "config.json");
    const adapter = makeAdapter(2, 2);
    adapter.layers[1]!.v_proj!.b[3] = Number.NaN;
    adapter.layers[1]!.v_proj!.b[4] = Number.NEGATIVE_INFINITY;
    const folder = await temporaryFolder();
    const write = writePeftAdapter(folder, adapter, config, "a/b");
    await expect(write).rejects.toThrow(NonFiniteError);
    await expect(write).rejects.toThrow(
      "layers.1.self_attn.v_proj.lora_B.weight: must be finite to be saved, found NaN at element 3 (2 such",
    );
    expect(await readdir(folder)).toEqual([]);
  });

  test("arrays of a wrong size leave nothing behind", async () => {
    const config = parseLlamaConfig(JSON.stringify(TINY_CONFIG), "config.json");
    const folder = await temporaryFolder();
    await expect(writePeftAdapter(folder, { ...makeAdapter(2, 2), r: 3 }, config, "a/b")).rejects.toThrow("bytes");
    expect(await readdir(folder)).toEqual([]);
  });

  test("a folder that cannot be made is an InputError", async () => {
    const config = parseLlamaConfig(JSON.stringify(TINY_CONFIG), "config.json");
    const path = join(await temporaryFolder(), "file");
    await writeFile(path, "");
    expect(await inputErrorOf(() => writePeftAdapter(path, makeAdapter(2, 2), config, "a/b"))).toContain(
      "cannot create",
    );
  });

  /** The shapes of TINY_CONFIG, filled with distinct values. */
  function makeAdapter(r: number, layerCount: number): LoraAdapter {
    const sizes = {
      q_proj: [8, 8],
      k_proj: [8, 4],
      v_proj: [8, 4],
      o_proj: [8, 8],
      gate_proj: [8, 6],
      up_proj: [8, 6],
      down_proj: [6, 8],
    };
    let next = 0;
    const fill = (length: number) => Float32Array.from({ length }, () => Math.fround(Math.sin(++next)));
    const layers = Array.from({ length: layerCount }, () =>
      Object.fromEntries(
        PROJECTIONS.map((name) => [name, { a: fill(r * sizes[name][0]!), b: fill(r * sizes[name][1]!) }]),
      ),
    );
    return { r, loraAlpha: 4, useRslora: false, targetModules: PROJECTIONS, layers };
  }
});

describe("refused adapters", () => {
  const problemWith = async (change: (tensors: Record<string, TestTensor>) => void, config = CONFIG) => {
    const folder = await copyOfFixture();
    const tensors = await fixtureTensors();
    change(tensors);
    await writeFile(join(folder, WEIGHTS), tensorFile(tensors));
    const message = await inputErrorOf(() => readPeftAdapter(folder, config));
    expect(message).toContain(join(folder, WEIGHTS));
    return message;
  };
  const vector = (count: number): TestTensor => ({ dtype: "F32", shape: [count], data: new Uint8Array(4 * count) });

  test("a tensor is missing", async () => {
    expect(await problemWith((tensors) => delete tensors[NAME])).toContain(`missing "${NAME}"`);
  });

  test("tensors that do not belong are named", async () => {
    for (const extra of [
      "base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight",
      "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
      "base_model.model.model.layers.11.self_attn.q_proj.lora_A.weight",
      "base_model.model.lm_head.weight",
      "\u001b[31m",
    ]) {
      const message = await problemWith((tensors) => {
        tensors[extra] = vector(2);
      });
      expect(message).toContain(
        `must hold nothing but A and B of the target modules, found "${extra.replace("\u001b", "\\u001b")}"`,
      );
    }
  });

  test("a model of other layers or other widths", async () => {
    const fewer = await problemWith(() => {}, { ...CONFIG, layers: 10 });
    expect(fewer).toContain('found "base_model.model.model.layers.10.');
    const wider = await problemWith(() => {}, { ...CONFIG, hiddenSize: 16 });
    expect(wider).toMatch(
      /lora_B\.weight" must be \[16, 2\], found \[8, 2\] \(and 32 more tensors have other shapes\)$/,
    );
  });

  test("a wrong shape, a dtype that is no float, values that are not finite", async () => {
    const shape = await problemWith((tensors) => {
      tensors[NAME] = { ...tensors[NAME]!, shape: [8, 2] };
    });
    expect(shape).toContain(
      `must have the shapes that r and the model require: "${NAME}" must be [2, 8], found [8, 2]`,
    );
    const dtype = await problemWith((tensors) => {
      tensors[NAME] = { ...tensors[NAME]!, dtype: "I32" };
    });
    expect(dtype).toContain(`must be stored in BF16, F16, F32, found I32 in "${NAME}"`);
    const values = await problemWith((tensors) => {
      const floats = floatsOf(tensors[NAME]!);
      floats[5] = Number.POSITIVE_INFINITY;
      tensors[NAME] = { ...tensors[NAME]!, data: new Uint8Array(floats.buffer) };
    });
    expect(values).toContain(`"${NAME}" must hold finite values, found Infinity at element 5 (1 such values)`);
  });

  test("files that are missing, damaged, of another format or linked from outside", async () => {
    const folder = await copyOfFixture();
    await rename(join(folder, WEIGHTS), join(folder, "adapter_model.bin"));
    expect(await inputErrorOf(() => readPeftAdapter(folder, CONFIG))).toContain(
      "adapter_model.bin: weights must be in the safetensors",
    );
    await rm(join(folder, "adapter_model.bin"));
    expect(await inputErrorOf(() => readPeftAdapter(folder, CONFIG))).toContain(`with ${WEIGHTS}, found none`);
    await symlink(join(FIXTURE, WEIGHTS), join(folder, WEIGHTS));
    expect(await inputErrorOf(() => readPeftAdapter(folder, CONFIG))).toContain("symbolic link out of the folder");
    await rm(join(folder, "adapter_config.json"));
    expect(await inputErrorOf(() => readPeftAdapter(folder, CONFIG))).toContain("with adapter_config.json, found none");
    expect(await inputErrorOf(() => readPeftAdapter(join(folder, "none"), CONFIG))).toContain(
      "no such file or directory",
    );
    const cut = await copyOfFixture();
    await truncate(join(cut, WEIGHTS), 9000);
    expect(await inputErrorOf(() => readPeftAdapter(cut, CONFIG))).toContain("the file is cut short");
  });
});

describe("adapter_config.json", () => {
  const base = { peft_type: "LORA", r: 4, lora_alpha: 8, target_modules: ["q_proj"] };
  const parse = (change: object) => parsePeftConfig(JSON.stringify({ ...base, ...change }), "adapter_config.json");

  test.each<[string, object, object]>([
    ["few keys", {}, { r: 4, loraAlpha: 8, useRslora: false, targetModules: ["q_proj"] }],
    ["PEFT's defaults", { r: undefined, lora_alpha: undefined }, { r: 8, loraAlpha: 8 }],
    ["all-linear", { target_modules: "all-linear" }, { targetModules: PROJECTIONS }],
    ["any order", { target_modules: ["up_proj", "q_proj", "up_proj"] }, { targetModules: ["q_proj", "up_proj"] }],
    ["a fractional alpha", { lora_alpha: 0.5 }, { loraAlpha: 0.5 }],
    ["rank-stabilized", { use_rslora: true }, { useRslora: true }],
    ["dropout, which acts in training only", { lora_dropout: 0.1 }, { r: 4 }],
    ["initializations that leave the base alone", { init_lora_weights: "gaussian" }, { r: 4 }],
    ["unset keys that are not known", { some_new_config: null, use_new: false, patterns: {}, list: [] }, { r: 4 }],
  ])("accepts %s", (_, change, expected) => {
    expect(parse(change)).toMatchObject(expected);
  });

  test.each<[object, string]>([
    [{ peft_type: "IA3" }, 'peft_type must be "LORA", found "IA3"'],
    [{ peft_type: undefined }, 'peft_type must be "LORA", found nothing'],
    [{ task_type: "SEQ_CLS" }, 'task_type must be "CAUSAL_LM", found "SEQ_CLS"'],
    [{ bias: "lora_only" }, 'bias must be "none", found "lora_only"'],
    [{ r: 0 }, "r must be an integer from 1 to 65536, found 0"],
    [{ r: 4.5 }, "r must be an integer from 1 to 65536, found 4.5"],
    [{ r: 1e9 }, "r must be an integer from 1 to 65536, found 1000000000"],
    [{ lora_alpha: -1 }, "lora_alpha must be a number above 0, found -1"],
    [{ lora_alpha: "16" }, 'lora_alpha must be a number above 0, found "16"'],
    [{ use_rslora: "yes" }, 'use_rslora must be true or false, found "yes"'],
    [{ use_dora: true }, "use_dora must be unset, because it is not supported, found true"],
    [{ fan_in_fan_out: true }, "fan_in_fan_out must be unset, because it is not supported, found true"],
    [{ lora_bias: true }, "lora_bias must be unset, because it is not supported, found true"],
    [{ modules_to_save: ["lm_head"] }, 'modules_to_save must be unset, because it is not supported, found ["lm_head"]'],
    [{ layers_to_transform: [0, 1] }, "layers_to_transform must be unset, because it is not supported, found [0, 1]"],
    [{ layers_to_transform: 0 }, "layers_to_transform must be unset, because it is not supported, found 0"],
    [{ rank_pattern: { q_proj: 8 } }, "rank_pattern must be unset, because it is not supported, found {…}"],
    [{ alpha_pattern: { q_proj: 8 } }, "alpha_pattern must be unset, because it is not supported, found {…}"],
    [{ exclude_modules: "q_proj" }, 'exclude_modules must be unset, because it is not supported, found "q_proj"'],
    [{ layer_replication: [[0, 1]] }, "layer_replication must be unset, because it is not supported, found [[…]]"],
    [{ trainable_token_indices: [1] }, "trainable_token_indices must be unset, because it is not supported, found [1]"],
    [{ use_qalora: true }, "use_qalora must be unset, because it is not supported, found true"],
    [{ some_new_method: "on" }, 'some_new_method must be unset, because it is not supported, found "on"'],
    [
      { init_lora_weights: "pissa" },
      'init_lora_weights must be true or false or "gaussian" or "orthogonal" or "eva", found "pissa"',
    ],
  ])("refuses %j", async (change, problem) => {
    expect(await inputErrorOf(() => parse(change))).toBe(`adapter_config.json: ${problem}`);
  });

  test.each([
    [null],
    [[]],
    [".*(q_proj|v_proj)"],
    ["q_proj"],
    [["q_proj", "lm_head"]],
    [["self_attn.q_proj"]],
    [["embed_tokens"]],
    [[1]],
    [{ q_proj: true }],
  ])("refuses target_modules %j", async (target_modules) => {
    const message = await inputErrorOf(() => parse({ target_modules }));
    expect(message).toMatch(
      /^adapter_config\.json: target_modules must be "all-linear" or a list of some of q_proj, k_proj,/,
    );
    expect(message).toContain("regular expressions and other modules are not supported");
  });

  test("all problems at once; not an object; a repeated key", async () => {
    const message = await inputErrorOf(() => parse({ use_dora: true, r: -1, target_modules: null, bias: "all" }));
    expect(message.split("\n").length).toBe(4);
    const unknown = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`key_${i}`, 1]));
    const many = (await inputErrorOf(() => parse(unknown))).split("\n");
    expect(many.length).toBe(41);
    expect(many[40]).toBe("adapter_config.json: 960 more problems");
    expect(await inputErrorOf(() => parsePeftConfig("[]", "a.json"))).toBe("a.json: must be a JSON object, found []");
    expect(await inputErrorOf(() => parsePeftConfig('{"r":1,"r":2}', "a.json"))).toContain('repeat the key "r"');
  });

  test("what is written is accepted", () => {
    const settings = { r: 5, loraAlpha: 2.5, useRslora: true, targetModules: ["k_proj", "o_proj"] } as const;
    expect(parsePeftConfig(formatPeftConfig(settings, 'a/"b"'), "x")).toEqual(settings);
  });
});
