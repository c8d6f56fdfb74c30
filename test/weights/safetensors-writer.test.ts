import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { AtomicFile, writeFileAtomically } from "../../src/weights/atomic-file.ts";
import { openModelFolder } from "../../src/weights/model-folder.ts";
import { openSafetensorsFile } from "../../src/weights/safetensors-file.ts";
import type { TensorSpec } from "../../src/weights/safetensors-header.ts";
import { encodeSafetensorsHeader, SafetensorsWriter } from "../../src/weights/safetensors-writer.ts";
import { formatModelIndex, planShards, ShardedWriter } from "../../src/weights/sharded-writer.ts";
import { inputErrorOf, modelFolder, patternBytes, temporaryFolder, tinyTensors } from "./fixtures.ts";

const TENSORS: TensorSpec[] = [
  { name: "first", dtype: "F32", shape: [2, 3] },
  { name: "nothing", dtype: "F32", shape: [0] },
  { name: "odd \u001b é", dtype: "U8", shape: [3] },
  { name: "scalar", dtype: "BF16", shape: [] },
  { name: "__proto__", dtype: "BF16", shape: [1] },
  { name: "also nothing", dtype: "BF16", shape: [2, 0] },
];
const DATA: Record<string, Uint8Array> = Object.assign(Object.create(null), {
  first: patternBytes(24),
  nothing: new Uint8Array(0),
  "odd \u001b é": patternBytes(3),
  scalar: patternBytes(2),
  ["__proto__"]: patternBytes(2),
  "also nothing": new Uint8Array(0),
});

async function createWriter(path: string, tensors = TENSORS): Promise<SafetensorsWriter> {
  const writer = await SafetensorsWriter.create(path, tensors);
  onTestFinished(() => writer.discard());
  return writer;
}

describe("encodeSafetensorsHeader", () => {
  test.each([0, 1, 2, 3, 4, 5, 6, 7, 8])("is padded with spaces to 8 bytes (a name of %i letters)", (letters) => {
    const bytes = encodeSafetensorsHeader([{ name: "n".repeat(letters), dtype: "F16", shape: [2, 2] }]);
    expect(bytes.byteLength % 8).toBe(0);
    expect(Buffer.from(bytes).readBigUInt64LE()).toBe(BigInt(bytes.byteLength - 8));
    const text = Buffer.from(bytes.subarray(8)).toString();
    expect(text).toMatch(/\} {0,7}$/);
    expect(JSON.parse(text)).toEqual({
      __metadata__: { format: "pt" },
      ["n".repeat(letters)]: { dtype: "F16", shape: [2, 2], data_offsets: [0, 8] },
    });
  });

  test("refuses names that are taken", () => {
    const tensor = { name: "a", dtype: "F32", shape: [1] } as const;
    expect(() => encodeSafetensorsHeader([tensor, tensor])).toThrow('tensor name "a" is taken');
    expect(() => encodeSafetensorsHeader([{ ...tensor, name: "__metadata__" }])).toThrow("is taken");
  });
});

describe("SafetensorsWriter", () => {
  test.each([1, 2, 5, 100])("what it writes in pieces of %i bytes, the reader reads", async (pieceBytes) => {
    const folder = await temporaryFolder();
    const path = join(folder, "m.safetensors");
    const writer = await createWriter(path);
    for (const { name } of TENSORS) {
      const data = DATA[name]!;
      for (let at = 0; at < data.byteLength; at += pieceBytes)
        await writer.append(name, data.subarray(at, at + pieceBytes));
    }
    const written = await writer.seal();
    expect(await readdir(folder)).not.toContain("m.safetensors");
    await writer.publish();
    expect(await readdir(folder)).toEqual(["m.safetensors"]);
    const bytes = await readFile(path);
    expect(written).toEqual({
      path,
      sizeBytes: bytes.byteLength,
      sha256Hex: createHash("sha256").update(bytes).digest("hex"),
    });
    const file = await openSafetensorsFile(path);
    onTestFinished(() => file.close());
    expect([...file.header.tensors.keys()].sort()).toEqual(TENSORS.map(({ name }) => name).sort());
    for (const { name } of TENSORS) expect(await file.readTensor(name)).toEqual(DATA[name]);
  });

  test("a file without tensors", async () => {
    const path = join(await temporaryFolder(), "m.safetensors");
    const writer = await createWriter(path, []);
    await writer.seal();
    await writer.publish();
    const file = await openSafetensorsFile(path);
    onTestFinished(() => file.close());
    expect(file.header.tensors.size).toBe(0);
    expect(file.header.metadata).toEqual(new Map([["format", "pt"]]));
  });

  test("refuses too many bytes, too few, a wrong order and an unknown tensor", async () => {
    const folder = await temporaryFolder();
    const writer = await createWriter(join(folder, "m.safetensors"));
    await expect(writer.append("scalar", new Uint8Array(2))).rejects.toThrow(
      'expected bytes of "first", got some of "scalar"',
    );
    await expect(writer.append("none", new Uint8Array(2))).rejects.toThrow('got some of "none"');
    await writer.append("first", new Uint8Array(20));
    await expect(writer.append("first", new Uint8Array(5))).rejects.toThrow('"first" has 24 bytes, got 25');
    await expect(writer.seal()).rejects.toThrow('"first" has 24 bytes, got 20');
    await writer.append("first", new Uint8Array(4));
    await expect(writer.append("first", new Uint8Array(1))).rejects.toThrow('expected bytes of "odd');
    for (const name of ["odd \u001b é", "scalar", "__proto__"]) await writer.append(name, DATA[name]!);
    await expect(writer.append("first", new Uint8Array(1))).rejects.toThrow("expected bytes of no tensor");
    await writer.discard();
    expect(await readdir(folder)).toEqual([]);
  });

  test("until it is published an older file stays as it was", async () => {
    const folder = await temporaryFolder();
    const path = join(folder, "m.safetensors");
    await writeFile(path, "older");
    const writer = await createWriter(path, [{ name: "t", dtype: "U8", shape: [1] }]);
    await writer.append("t", Uint8Array.of(7));
    await writer.seal();
    expect(await readFile(path, "utf8")).toBe("older");
    await writer.discard();
    expect(await readdir(folder)).toEqual(["m.safetensors"]);
    expect(await readFile(path, "utf8")).toBe("older");
  });

  test("a folder that is not there is an InputError", async () => {
    const path = join(await temporaryFolder(), "none", "m.safetensors");
    expect(await inputErrorOf(() => createWriter(path))).toMatch(
      /m\.safetensors: cannot write: no such file or directory$/,
    );
  });
});

describe("AtomicFile", () => {
  test("writes text and bytes under their name alone, and gives their hash", async () => {
    const folder = await temporaryFolder();
    const path = join(folder, "é.json");
    expect(await writeFileAtomically(path, "é\n")).toBe(createHash("sha256").update("é\n").digest("hex"));
    expect(await writeFileAtomically(path, Uint8Array.of(1, 2))).toMatch(/^[0-9a-f]{64}$/);
    expect(await readdir(folder)).toEqual(["é.json"]);
    expect([...(await readFile(path))]).toEqual([1, 2]);
  });

  test("a name that is a folder: an InputError, and nothing stays behind", async () => {
    const folder = await temporaryFolder();
    await mkdir(join(folder, "x"));
    expect(await inputErrorOf(() => writeFileAtomically(join(folder, "x"), "text"))).toContain("x: cannot write");
    expect(await readdir(folder)).toEqual(["x"]);
  });

  test("two writers of one file do not disturb each other", async () => {
    const path = join(await temporaryFolder(), "x");
    const [one, two] = [await AtomicFile.create(path), await AtomicFile.create(path)];
    await one.write(Buffer.from("one"));
    await two.write(Buffer.from("two"));
    for (const file of [one, two]) {
      await file.seal();
      await file.publish();
      await file.discard();
    }
    expect(await readFile(path, "utf8")).toBe("two");
  });
});

describe("shards", () => {
  const sized = (name: string, sizeBytes: number): TensorSpec => ({ name, dtype: "U8", shape: [sizeBytes] });
  const plan = (sizes: number[], maxShardBytes: number) =>
    planShards(
      sizes.map((size, i) => sized(`t${i}`, size)),
      maxShardBytes,
    ).map(({ fileName, tensors }) => `${fileName}: ${tensors.map(({ name }) => name).join(" ")}`);

  test("fit one file while they can", () => {
    expect(plan([], 10)).toEqual(["model.safetensors: "]);
    expect(plan([3, 3, 4], 10)).toEqual(["model.safetensors: t0 t1 t2"]);
    expect(plan([100], 10)).toEqual(["model.safetensors: t0"]);
  });

  test("are filled in order; a tensor over the limit has its own", () => {
    expect(plan([6, 6, 2, 6, 2, 2], 10)).toEqual([
      "model-00001-of-00003.safetensors: t0",
      "model-00002-of-00003.safetensors: t1 t2",
      "model-00003-of-00003.safetensors: t3 t4 t5",
    ]);
    expect(plan([1, 50, 1], 10)).toEqual([
      "model-00001-of-00003.safetensors: t0",
      "model-00002-of-00003.safetensors: t1",
      "model-00003-of-00003.safetensors: t2",
    ]);
  });

  test("by default have at most 5 GB: Llama-3.1-8B in bf16 has 4", () => {
    const layer = [4096 * 4096, 1024 * 4096, 1024 * 4096, 4096 * 4096, 3 * 14336 * 4096].map((n) => 2 * n);
    const sizes = [2 * 128256 * 4096, ...Array.from({ length: 32 }, () => layer).flat(), 2 * 128256 * 4096];
    expect(planShards(sizes.map((size, i) => sized(`t${i}`, size))).length).toBe(4);
  });

  test("the index names every tensor's shard, sorted, with the total size", () => {
    const index = formatModelIndex(planShards([sized("b", 6), { name: "a", dtype: "F32", shape: [2, 3] }], 10));
    expect(index.endsWith("}\n")).toBe(true);
    expect(JSON.parse(index)).toEqual({
      metadata: { total_parameters: 12, total_size: 30 },
      weight_map: { a: "model-00002-of-00002.safetensors", b: "model-00001-of-00002.safetensors" },
    });
    expect(index.indexOf('"a"')).toBeLessThan(index.indexOf('"b"'));
  });

  const tiny = tinyTensors();
  const specs = Object.entries(tiny).map(([name, { dtype, shape }]) => ({ name, dtype, shape }) as TensorSpec);

  async function createSharded(folder: string, maxShardBytes?: number): Promise<ShardedWriter> {
    const writer = new ShardedWriter(folder, specs, maxShardBytes);
    onTestFinished(() => writer.discard());
    return writer;
  }

  test.each([
    [undefined, 1],
    [400, 5],
    [1, specs.length],
  ])("a model written with a limit of %s bytes opens as %i files and holds the same", async (maxShardBytes, count) => {
    const folder = await modelFolder({});
    const writer = await createSharded(folder, maxShardBytes);
    for (const [name, { data }] of Object.entries(tiny)) {
      await writer.append(name, data.subarray(0, 10));
      await writer.append(name, data.subarray(10));
      expect((await readdir(folder)).filter((file) => !file.startsWith("."))).toEqual(["config.json"]);
    }
    const written = await writer.finish();
    expect(written.length).toBe(count);
    const names = (await readdir(folder)).sort();
    expect(names.length).toBe(count === 1 ? 2 : count + 2);
    expect(names.some((name) => name.startsWith("."))).toBe(false);
    const model = await openModelFolder(folder);
    onTestFinished(() => model.close());
    expect(model.files.map(({ path }) => path)).toEqual(written.map(({ path }) => path));
    for (const [name, { data }] of Object.entries(tiny)) {
      expect(await model.tensors.get(name)!.file.readTensor(name)).toEqual(data);
    }
  });

  test("refuse an unknown tensor, a wrong order and missing data, and leave nothing behind", async () => {
    const folder = await temporaryFolder();
    const writer = await createSharded(folder, 400);
    await expect(writer.append("none", new Uint8Array(1))).rejects.toThrow('"none" is not one of the tensors');
    await expect(writer.append("lm_head.weight", new Uint8Array(1))).rejects.toThrow("has 160 bytes, got 0");
    const [name, { data }] = Object.entries(tiny)[0]!;
    await writer.append(name, data);
    await expect(writer.finish()).rejects.toThrow(/has \d+ bytes, got 0/);
    await writer.discard();
    expect(await readdir(folder)).toEqual([]);
  });
});
