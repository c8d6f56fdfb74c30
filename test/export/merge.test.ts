import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { EXPORT_DTYPES, type ExportDtype } from "../../src/config/names.ts";
import { DeviceError, NonFiniteError } from "../../src/errors.ts";
import { readLoraAdapter } from "../../src/export/adapter.ts";
import { FILE_DTYPE } from "../../src/export/dtypes.ts";
import { type MergeOptions, type MergeReport, mergeModel } from "../../src/export/merge.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { uploadAdapter } from "../../src/model/lora.ts";
import { encodeFloats, FLOAT_DTYPES, type FloatDtype } from "../../src/weights/half.ts";
import {
  EMBEDDING_NAME,
  FINAL_NORM_NAME,
  HEAD_NAME,
  llamaTensors,
  projectionName,
} from "../../src/weights/llama-tensors.ts";
import type { ModelFolder } from "../../src/weights/model-folder.ts";
import { type LoraAdapter, readPeftAdapter } from "../../src/weights/peft-adapter.ts";
import { PROJECTIONS } from "../../src/weights/projections.ts";
import { useDevice } from "../device.ts";
import { readGoldenJson, readTensors } from "../golden/read.ts";
import { rootPath } from "../model/golden-model.ts";
import { roundTo } from "../reference/merge.ts";
import { inputErrorOf, modelFolder, temporaryFolder, tensorFile } from "../weights/fixtures.ts";
import {
  ALL_PROJECTIONS,
  countDifferent,
  eachModule,
  ODD_CONFIG,
  open,
  openModel,
  randomAdapter,
  randomWeights,
  readFolderTensors,
  storedTensor,
  updateOf,
} from "./fixtures.ts";

const device = useDevice();
/** Binds at most 8 rows of a (·, 50) weight in float32. */
const small = useDevice({ bindingLimitBytes: 8 * 56 * 4 });

const BYTES = { BF16: 2, F16: 2, F32: 4 } as const satisfies Record<FloatDtype, number>;

interface Merged {
  readonly folder: string;
  readonly report: MergeReport;
  readonly tensors: Awaited<ReturnType<typeof readFolderTensors>>;
}

async function merge(
  base: ModelFolder,
  adapter: LoraAdapter,
  dtype: ExportDtype,
  options: Partial<MergeOptions> & { gpu?: Gpu } = {},
): Promise<Merged> {
  const folder = options.outputFolder ?? join(await temporaryFolder(), "merged");
  const report = await mergeModel({ gpu: device.gpu, base, adapter, dtype, ...options, outputFolder: folder });
  return { folder, report, tensors: await readFolderTensors(folder) };
}

async function configOf(folder: string): Promise<unknown> {
  return JSON.parse(await readFile(join(folder, "config.json"), "utf8"));
}

interface GoldenMerge {
  readonly cases: Record<string, { readonly model: string; readonly adapter: string }>;
}

describe("the merged weights are PEFT's, bit for bit", () => {
  const { cases } = readGoldenJson<GoldenMerge>("merge/merge.json");
  for (const [name, { model, adapter }] of Object.entries(cases)) {
    it.each(["bfloat16", "float16"] as const)(`${name} in %s`, async (dtype) => {
      const base = await open(rootPath(model));
      const { tensors } = await merge(base, await readPeftAdapter(rootPath(adapter), base.config), dtype);
      let different = 0;
      for (const [tensor, { data }] of readTensors(`merge/${name}/merged-${dtype}.safetensors`)) {
        const expected = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
        different += countDifferent(tensors.get(tensor)!.data, expected, 2);
      }
      expect(different).toBe(0);
    });
  }

  it("the example model with the final adapter of TRL's run: float32 arithmetic in the order of the rank", async () => {
    const base = await open(rootPath("examples/twin-tiny/model"));
    const adapter = await readPeftAdapter(rootPath("test/golden/twin-tiny/final_adapter"), base.config);
    const { tensors, report } = await merge(base, adapter, "bfloat16");
    const stored = await readFolderTensors(base.path);
    for (const projection of ["k_proj", "down_proj"] as const) {
      const name = projectionName(5, projection);
      const update = updateOf(adapter, base.config, 5, projection);
      const bits = new Uint16Array(stored.get(name)!.data.buffer);
      const values = new Float32Array(Uint32Array.from(bits, (pattern) => pattern << 16).buffer);
      const expected = encodeFloats(
        "BF16",
        values.map((value, i) => value + update[i]!),
      );
      expect(countDifferent(tensors.get(name)!.data, expected, 2), name).toBe(0);
    }
    expect(report.base_files.map(({ name }) => name)).toEqual([
      "model-00001-of-00002.safetensors",
      "model-00002-of-00002.safetensors",
    ]);
    for (const { name, size_bytes, sha256 } of report.base_files) {
      const bytes = await readFile(join(base.path, name));
      expect([size_bytes, sha256]).toEqual([bytes.byteLength, createHash("sha256").update(bytes).digest("hex")]);
    }
  });
});

describe.each(FLOAT_DTYPES)("a %s base of odd sizes", (from) => {
  it.each(EXPORT_DTYPES)("in %s: merged, or rounded as .to(dtype) does", async (dtype) => {
    const { values, tensors } = randomWeights(ODD_CONFIG, from);
    const base = await openModel(tensors);
    const adapter = randomAdapter(base.config, { ...ALL_PROJECTIONS, useRslora: true });
    const merged = await merge(base, adapter, dtype);

    const expected = new Map([...values].map(([name, drawn]) => [name, drawn.map((value) => roundTo(from, value))]));
    eachModule(adapter, (name, layer, projection) => {
      const update = updateOf(adapter, base.config, layer, projection);
      expected.set(
        name,
        expected.get(name)!.map((value, i) => value + update[i]!),
      );
    });
    expect([...merged.tensors.keys()].sort()).toEqual([...expected.keys()].sort());
    for (const [name, sums] of expected) {
      const { dtype: writtenDtype, shape, data } = merged.tensors.get(name)!;
      expect([writtenDtype, shape]).toEqual([FILE_DTYPE[dtype], tensors[name]!.shape]);
      expect(countDifferent(data, encodeFloats(FILE_DTYPE[dtype], sums), BYTES[FILE_DTYPE[dtype]]), name).toBe(0);
    }
    expect(await configOf(merged.folder)).toEqual({ ...ODD_CONFIG, torch_dtype: dtype });
    await open(merged.folder);
  });
});

describe("a merge", () => {
  it("leaves the bytes of modules without an adapter, and the base, as they are", async () => {
    const { tensors } = randomWeights(ODD_CONFIG, "F16");
    const base = await openModel(tensors);
    const before = await readFile(join(base.path, "model.safetensors"));
    const settings = { ...ALL_PROJECTIONS, targetModules: ["v_proj", "up_proj"] as const };
    const merged = await merge(base, randomAdapter(base.config, settings), "float16");
    for (const [name, { data }] of Object.entries(tensors)) {
      const isAdapted = /\.(v_proj|up_proj)\./.test(name);
      expect(Buffer.compare(merged.tensors.get(name)!.data, data) === 0, name).toBe(!isAdapted);
    }
    expect(Buffer.compare(await readFile(join(base.path, "model.safetensors")), before)).toBe(0);
    expect(Object.keys(merged.report.fidelity.projections)).toEqual(["v_proj", "up_proj"]);
  });

  it("writes one copy of tied embeddings, and no rotary frequencies", async () => {
    const config = { ...ODD_CONFIG, tie_word_embeddings: true };
    const { tensors } = randomWeights(config, "F32");
    const base = await openModel(
      {
        [HEAD_NAME]: tensors[EMBEDDING_NAME]!,
        ...tensors,
        "model.layers.0.self_attn.rotary_emb.inv_freq": storedTensor("F32", [5], new Float32Array(5)),
      },
      config,
    );
    const merged = await merge(base, randomAdapter(base.config), "float32");
    expect([...merged.tensors.keys()].sort()).toEqual(
      llamaTensors(base.config)
        .map(({ name }) => name)
        .sort(),
    );
    expect(merged.tensors.get(EMBEDDING_NAME)!.data).toEqual(tensors[EMBEDDING_NAME]!.data);
  });

  it("mixes dtypes where the base does", async () => {
    const { tensors } = randomWeights(ODD_CONFIG, "BF16");
    const other = randomWeights(ODD_CONFIG, "F32", 5).tensors;
    const name = projectionName(1, "q_proj");
    const mixed = { ...tensors, [name]: other[name]!, [FINAL_NORM_NAME]: other[FINAL_NORM_NAME]! };
    const [base, wide] = [await openModel(mixed), await openModel(other)];
    const adapter = randomAdapter(base.config);
    const [merged, fromWide] = [await merge(base, adapter, "float16"), await merge(wide, adapter, "float16")];
    for (const tensor of [name, FINAL_NORM_NAME]) {
      expect(merged.tensors.get(tensor)).toEqual(fromWide.tensors.get(tensor));
    }
  });

  it("splits the weights into shards of the size asked for", async () => {
    const { tensors } = randomWeights(ODD_CONFIG, "BF16");
    const base = await openModel(tensors);
    const adapter = randomAdapter(base.config);
    const maxShardBytes = 9_000;
    const whole = await merge(base, adapter, "bfloat16");
    const { folder, report, tensors: sharded } = await merge(base, adapter, "bfloat16", { maxShardBytes });
    expect(sharded).toEqual(whole.tensors);
    const shards = (await readdir(folder)).filter((name) => name.endsWith(".safetensors")).sort();
    expect(shards.length).toBeGreaterThan(4);
    expect(report.files.map(({ name }) => name)).toEqual(shards);
    for (const { name, size_bytes, sha256 } of report.files) {
      const bytes = await readFile(join(folder, name));
      expect(name).toMatch(new RegExp(`^model-0000\\d-of-0000${shards.length}\\.safetensors$`));
      expect(bytes.byteLength - 8 - Number(bytes.readBigUInt64LE())).toBeLessThanOrEqual(maxShardBytes);
      expect([size_bytes, sha256]).toEqual([bytes.byteLength, createHash("sha256").update(bytes).digest("hex")]);
    }
    const merged = await open(folder); // Checks the index against the shards.
    expect(merged.tensors.size).toBe(sharded.size);
    expect(await readdir(whole.folder)).not.toContain("model.safetensors.index.json");
  });

  it("has the same bits and nearly the same sums where bindings are small", async () => {
    const base = await openModel(randomWeights(ODD_CONFIG, "F16").tensors);
    const adapter = randomAdapter(base.config);
    const [one, many] = [
      await merge(base, adapter, "float32"),
      await merge(base, adapter, "float32", { gpu: small.gpu }),
    ];
    expect(many.tensors).toEqual(one.tensors);
    expect(many.report.fidelity.overall.kept).toBeCloseTo(one.report.fidelity.overall.kept!, 5);
    expect(many.report.fidelity.overall.update_norm).toBeCloseTo(one.report.fidelity.overall.update_norm!, 5);
  });

  it("refuses a rank whose factor the device cannot bind", async () => {
    const base = await openModel(randomWeights(ODD_CONFIG, "F16").tensors);
    const adapter = randomAdapter(base.config, { ...ALL_PROJECTIONS, r: 9 });
    const error = await merge(base, adapter, "float32", { gpu: small.gpu }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(DeviceError);
    expect((error as DeviceError).message).toBe(
      "merging q_proj, 36 wide, at rank 9 exceeds the 1792 bytes that this device can bind; choose another with --device",
    );
  });

  it("releases what it takes on the GPU, and reports its progress", async () => {
    const base = await openModel(randomWeights(ODD_CONFIG, "F16").tensors);
    const adapter = randomAdapter(base.config);
    await merge(base, adapter, "float16");
    const before = device.gpu.memory.liveBytes;
    const progress: number[] = [];
    let total = 0;
    await merge(base, adapter, "float16", {
      onProgress: (doneBytes, totalBytes) => {
        progress.push(doneBytes);
        total = totalBytes;
      },
    });
    expect(device.gpu.memory.liveBytes).toBe(before);
    expect(progress.length).toBe(base.tensors.size);
    expect(progress).toEqual([...progress].sort((a, b) => a - b));
    expect(total).toBe(base.files[0]!.sizeBytes);
    expect(progress.at(-1)).toBe(total - base.files[0]!.header.dataOffsetBytes);
  });

  it("takes an adapter from the GPU as it is", async () => {
    const base = await openModel(randomWeights(ODD_CONFIG, "F16").tensors);
    for (const targetModules of [PROJECTIONS, ["down_proj"] as const]) {
      const adapter = randomAdapter(base.config, { ...ALL_PROJECTIONS, targetModules });
      expect(await readLoraAdapter(device.gpu, uploadAdapter(device.gpu, base.config, adapter))).toEqual(adapter);
    }
  });
});

describe("the folder", () => {
  const OTHERS = {
    "tokenizer.json": '{"a": "é"}',
    "tokenizer_config.json": "{}",
    "special_tokens_map.json": "{}",
    "generation_config.json": '{"temperature": 0.60}',
    "chat_template.jinja": "{{ messages }}",
    LICENSE: "Llama licence",
    "USE_POLICY.md": "# Policy",
    "NOTICE.txt": "",
    "README.md": "# The base",
    "training_args.bin": "no",
    "optimizer.safetensors.md": "no",
  };

  it("has tokenizer, template, generation config and licences as they are, and nothing else of the base", async () => {
    const { tensors } = randomWeights(ODD_CONFIG, "BF16");
    const base = await openModel(tensors, ODD_CONFIG, OTHERS);
    await mkdir(join(base.path, "original"));
    const { folder } = await merge(base, randomAdapter(base.config), "bfloat16");
    const copied = Object.keys(OTHERS).slice(0, 8);
    expect((await readdir(folder)).sort()).toEqual([...copied, "config.json", "model.safetensors"].sort());
    for (const name of copied as (keyof typeof OTHERS)[]) {
      expect(await readFile(join(folder, name), "utf8")).toBe(OTHERS[name]);
    }
  });

  it("is made where there is none, with the folders above it, or in place of an empty one", async () => {
    const base = await openModel(randomWeights(ODD_CONFIG, "BF16").tensors);
    const parent = await temporaryFolder();
    await mkdir(join(parent, "empty"));
    await symlink(join(parent, "empty"), join(parent, "link"));
    for (const name of ["new/er/é model", "link"]) {
      const outputFolder = join(parent, name);
      await merge(base, randomAdapter(base.config), "bfloat16", { outputFolder });
      await open(outputFolder);
    }
    expect((await readdir(parent)).sort()).toEqual(["empty", "link", "new"]);
    expect((await readdir(join(parent, "empty"))).sort()).toEqual(["config.json", "model.safetensors"]);
  });

  it("must not hold anything, be a file, or lie below one", async () => {
    const base = await openModel(randomWeights(ODD_CONFIG, "BF16").tensors);
    const parent = await temporaryFolder();
    await mkdir(join(parent, "full"));
    await writeFile(join(parent, "full", "notes\u001b.txt"), "mine");
    await writeFile(join(parent, "file"), "mine");
    const refusal = (name: string) =>
      inputErrorOf(() => merge(base, randomAdapter(base.config), "bfloat16", { outputFolder: join(parent, name) }));
    expect(await refusal("full")).toBe(
      `the output folder ${parent}/full must not exist, or be empty, found notes\\u001b.txt; choose another, or remove it`,
    );
    const inTheWay = "must not exist, or be an empty folder, found a file in its way";
    expect(await refusal("file")).toBe(`the output folder ${parent}/file ${inTheWay}`);
    expect(await refusal("file/merged")).toBe(`the output folder ${parent}/file/merged ${inTheWay}`);
    expect(await refusal("a\0b")).toContain("cannot open the output folder");
    expect(
      await inputErrorOf(() => merge(base, randomAdapter(base.config), "bfloat16", { outputFolder: "" })),
    ).toContain("must not exist, or be empty, found");
    expect((await readdir(parent)).sort()).toEqual(["file", "full"]);
    expect(await readdir(join(parent, "full"))).toEqual(["notes\u001b.txt"]);
  });
});

describe("what cannot be exported leaves nothing behind", () => {
  /** The error of a merge with one element changed, after other shards are complete. */
  async function errorOf(
    dtype: ExportDtype,
    { tensor, element, value, from = "F32" }: { tensor: string; element: number; value: number; from?: FloatDtype },
    adapt: (adapter: LoraAdapter) => void = () => {},
  ): Promise<{ error: unknown; left: string[]; file: string }> {
    const { values, tensors } = randomWeights(ODD_CONFIG, from);
    const drawn = values.get(tensor)!;
    drawn[element] = value;
    const base = await openModel({ ...tensors, [tensor]: storedTensor(from, tensors[tensor]!.shape, drawn) });
    const adapter = randomAdapter(base.config);
    adapt(adapter);
    const parent = await temporaryFolder();
    const outputFolder = join(parent, "merged");
    const error = await merge(base, adapter, dtype, { outputFolder, maxShardBytes: 5_000 }).catch((thrown) => thrown);
    return { error, left: await readdir(parent), file: base.files[0]!.path };
  }

  it.each([
    ["q_proj", projectionName(1, "q_proj"), 36 * 29 + 35, "[29, 35]"],
    ["the embedding", EMBEDDING_NAME, 36 * 44, "[44, 0]"],
    ["a norm", FINAL_NORM_NAME, 7, "[7]"],
  ])("a base that is not finite, in %s", async (_, tensor, element, place) => {
    for (const [value, dtype, from] of [
      [Number.NaN, "bfloat16", "BF16"],
      [Number.NEGATIVE_INFINITY, "float32", "F16"],
    ] as const) {
      const { error, left, file } = await errorOf(dtype, { tensor, element, value, from });
      expect((error as Error).message).toBe(`${file}: "${tensor}" must hold finite values, found ${value} at ${place}`);
      expect((error as { exitCode: number }).exitCode).toBe(2);
      expect(left).toEqual([]);
    }
  });

  it("a value beyond float16, in the base or by its update", async () => {
    const tensor = projectionName(1, "down_proj");
    const where = { tensor, element: 50 * 3 + 49, value: 65500 };
    const push = ({ layers, r }: LoraAdapter) => {
      const { a, b } = layers[1]!.down_proj!;
      a.fill(0).fill(1, 49, 50);
      b.fill(0).fill(12, 3 * r, 3 * r + 1); // s = 7 / 3: the element's update is 28
    };
    const pushed = await errorOf("float16", where, push);
    expect((pushed.error as Error).message).toBe(
      `"${tensor}": 65528 at [3, 49] is beyond float16, whose largest value is 65504; export in bfloat16 or float32`,
    );
    expect((pushed.error as { exitCode: number }).exitCode).toBe(2);
    expect(pushed.left).toEqual([]);
    expect((await errorOf("bfloat16", where, push)).error).not.toBeInstanceOf(Error);

    const norm = { tensor: FINAL_NORM_NAME, element: 0, value: -70000 };
    const { error, left } = await errorOf("float16", norm);
    expect((error as Error).message).toContain(`"${FINAL_NORM_NAME}": -70000 at [0] is beyond float16`);
    expect(left).toEqual([]);
  });

  it("a float32 beyond bfloat16", async () => {
    const { error } = await errorOf("bfloat16", { tensor: EMBEDDING_NAME, element: 0, value: 3.4e38 });
    expect((error as Error).message).toContain(
      "is beyond bfloat16, whose largest value is 3.38953e+38; export in float32",
    );
  });

  it("a merged value beyond float32", async () => {
    const tensor = projectionName(0, "k_proj");
    const { error, left } = await errorOf("float32", { tensor, element: 0, value: 1 }, ({ layers }) => {
      layers[0]!.k_proj!.a[0] = 1e25;
      layers[0]!.k_proj!.b[0] = 1e25;
    });
    expect(error).toBeInstanceOf(NonFiniteError);
    expect((error as Error).message).toBe(
      `"${tensor}": the merged value at [0, 0] must be a finite float32, found 2.33333e+50; the adapter's factors are too large`,
    );
    expect(left).toEqual([]);
  });

  it("an adapter that is not finite", async () => {
    const tensor = projectionName(0, "k_proj");
    const { error, left } = await errorOf("bfloat16", { tensor, element: 0, value: 1 }, ({ layers }) => {
      layers[0]!.k_proj!.b[3 * 9 + 1] = Number.NaN;
    });
    expect(error).toBeInstanceOf(NonFiniteError);
    expect((error as Error).message).toMatch(
      /^".*k_proj\.weight": the merged value at \[9, 0\] must be .* found NaN; /,
    );
    expect(left).toEqual([]);
  });

  it("a signal that is aborted", async () => {
    const base = await openModel(randomWeights(ODD_CONFIG, "BF16").tensors);
    const parent = await temporaryFolder();
    const controller = new AbortController();
    const merging = merge(base, randomAdapter(base.config), "bfloat16", {
      outputFolder: join(parent, "merged"),
      maxShardBytes: 5_000,
      signal: controller.signal,
      onProgress: () => controller.abort(new Error("enough")),
    });
    await expect(merging).rejects.toThrow("enough");
    expect(await readdir(parent)).toEqual([]);
  });

  it("a base that changes meanwhile", async () => {
    const folder = await modelFolder(
      { "model.safetensors": tensorFile(randomWeights(ODD_CONFIG, "BF16").tensors) },
      ODD_CONFIG,
    );
    const base = await open(folder);
    const parent = await temporaryFolder();
    await utimes(join(folder, "model.safetensors"), new Date(), new Date("2001-01-01"));
    const merging = merge(base, randomAdapter(base.config), "bfloat16", { outputFolder: join(parent, "merged") });
    expect(await inputErrorOf(() => merging)).toMatch(/model\.safetensors/);
    expect(await readdir(parent)).toEqual([]);
  });
});
