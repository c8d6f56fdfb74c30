import { cp, open, readdir, readFile, rm, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { ExpectedError } from "../../src/errors.ts";
import { tensorRanges } from "../../src/model/base-weights.ts";
import { type LoadedBase, loadBaseWeights, type Precision } from "../../src/platform/load-base.ts";
import type { WeightsCache } from "../../src/platform/weights-cache.ts";
import { type ModelFolder, openModelFolder } from "../../src/weights/model-folder.ts";
import { openSafetensorsFile } from "../../src/weights/safetensors-file.ts";
import { useDevice } from "../device.ts";
import { rootPath } from "../model/golden-model.ts";
import { temporaryFolder } from "../weights/fixtures.ts";

/** How many more writes the disk takes, how many bytes it says it has left, and whether it takes new files. */
const disk = vi.hoisted(() => ({ writesLeft: Infinity, freeBytes: Infinity, isReadOnly: false }));

vi.mock("node:fs/promises", async (importOriginal) => {
  const original = await importOriginal<typeof import("node:fs/promises")>();
  const fileSystemError = (code: string, text: string) => Object.assign(new Error(`${code}: ${text}`), { code });
  const openLimited: typeof original.open = async (path, flags, mode) => {
    if (flags === "wx" && disk.isReadOnly) throw fileSystemError("EROFS", "read-only file system, open");
    const handle = await original.open(path, flags, mode);
    if (flags !== "wx") return handle;
    const write = handle.write.bind(handle) as (bytes: Uint8Array, offset: number) => Promise<{ bytesWritten: number }>;
    const limited = async (bytes: Uint8Array, offset: number) => {
      if (disk.writesLeft-- > 0) return write(bytes, offset);
      throw fileSystemError("ENOSPC", "no space left on device, write");
    };
    return Object.assign(handle, { write: limited });
  };
  const statfs = async () => ({ bavail: disk.freeBytes, bsize: 1 });
  return { ...original, open: openLimited, statfs };
});

const device = useDevice();

const MODEL = "test/golden/models/gqa-llama3";

let notices: string[];
beforeEach(() => {
  notices = [];
  Object.assign(disk, { writesLeft: Infinity, freeBytes: Infinity, isReadOnly: false });
});

interface Places {
  readonly model: string;
  readonly cache: string;
}

async function places(): Promise<Places> {
  const folder = await temporaryFolder();
  await cp(rootPath(MODEL), join(folder, "model"), { recursive: true });
  return { model: join(folder, "model"), cache: join(folder, "cache") };
}

async function opened(model: string): Promise<ModelFolder> {
  const folder = await openModelFolder(model);
  onTestFinished(() => folder.close());
  return folder;
}

interface Loaded extends LoadedBase {
  /** All that the buffers hold. */
  readonly bits: Buffer;
}

async function load(
  { model, cache }: Places,
  precision: Precision = "f16",
  more: Partial<WeightsCache> = {},
): Promise<Loaded> {
  const { gpu } = device;
  const onNotice = (line: string) => notices.push(line);
  const base = await loadBaseWeights(gpu, await opened(model), precision, {
    cache: { folder: cache, onNotice, ...more },
  });
  const ranges = [...base.weights.tensors.values()].flatMap(tensorRanges);
  const bits = Buffer.concat((await gpu.read(...ranges)).map((bytes) => new Uint8Array(bytes)));
  for (const { buffer } of ranges) gpu.release(buffer);
  return { ...base, bits };
}

async function keptFile({ cache }: Places): Promise<string> {
  const names = await readdir(cache);
  expect(names).toHaveLength(1);
  return join(cache, names[0]!);
}

/** The same weights and facts, wherever they came from. */
function expectSame(found: Loaded, wanted: Loaded): void {
  expect(Buffer.compare(found.bits, wanted.bits)).toBe(0);
  expect(found.sha256).toEqual(wanted.sha256);
  expect(found.rounded).toBe(wanted.rounded);
  expect(found.sizeBytes).toBe(wanted.sizeBytes);
}

it.each(["f32", "f16"] as const)("the next run in %s reads what the first has kept, to the bit", async (precision) => {
  const at = await places();
  const first = await load(at, precision);
  expect(first.from).toBe("files");
  expect(Object.keys(first.sha256)).toHaveLength(2);
  if (precision === "f16") expect(first.rounded).toBeGreaterThan(0);
  expect(notices).toEqual([expect.stringMatching(/^kept the converted weights for the next run: 0\.[23] MB in /)]);
  const second = await load(at, precision);
  expect(second.from).toBe("cache");
  expect(second.readBytes).toBe(second.bits.byteLength);
  expectSame(second, first);
  expect(notices).toHaveLength(1);
});

it("keeps one file for each format, in a format that other programs read", async () => {
  const at = await places();
  const [f32, f16] = [await load(at, "f32"), await load(at, "f16")];
  const names = await readdir(at.cache);
  expect(names.map((name) => /^[0-9a-f]{64}\.safetensors$/.test(name))).toEqual([true, true]);
  expectSame(await load(at, "f32"), f32);
  expectSame(await load(at, "f16"), f16);
  const file = await openSafetensorsFile(join(at.cache, names[0]!));
  onTestFinished(() => file.close());
  expect([...file.header.tensors.keys()].slice(0, 2)).toEqual(["facts", "model.embed_tokens.weight"]);
});

describe("is not used", () => {
  async function expectKeptAnew(at: Places, first: Loaded, reason: RegExp): Promise<void> {
    notices.length = 0;
    const second = await load(at);
    expect(second.from).toBe("files");
    expectSame(second, first);
    expect(notices).toEqual([
      expect.stringMatching(/^note: the kept weights cannot be used, so the model's files are read: /),
      expect.stringMatching(/^kept the converted weights/),
    ]);
    expect(notices[0]).toMatch(reason);
    const third = await load(at);
    expect(third.from).toBe("cache");
    expectSame(third, first);
  }

  it("with a bit flipped anywhere", async () => {
    const at = await places();
    const first = await load(at);
    const path = await keptFile(at);
    const whole = await readFile(path);
    const file = await openSafetensorsFile(path);
    const tensors = [...file.header.tensors.values()];
    await file.close();
    const [facts, embedding, checksums] = [tensors[0]!, tensors[1]!, tensors.at(-1)!];
    const norm = tensors.find(({ name }) => name.endsWith("layernorm.weight"))!;
    for (const { offsetBytes, sizeBytes } of [facts, embedding, norm, checksums]) {
      const damaged = Buffer.from(whole);
      damaged[offsetBytes + Math.floor(sizeBytes / 2)]! ^= 0x10;
      await writeFile(path, damaged);
      await expectKeptAnew(at, first, /is not as it was written \(CRC-32\)$/);
    }
    // In the header: a label of a buffer.
    const damaged = Buffer.from(whole);
    damaged[whole.indexOf("embed_tokens")]! ^= 1;
    await writeFile(path, damaged);
    await expectKeptAnew(at, first, /was made of other files/);
  });

  it.each([0, 7, 5000, -1])("cut to %i bytes", async (length) => {
    const at = await places();
    const first = await load(at);
    const path = await keptFile(at);
    await truncate(path, length < 0 ? (await stat(path)).size + length : length);
    await expectKeptAnew(at, first, /file|bytes/);
  });

  it("when a model file was changed after it was made, its size and time the same", async () => {
    const at = await places();
    const first = await load(at);
    const folder = await opened(at.model);
    const tensor = folder.tensors.get("model.norm.weight")!;
    const { path } = tensor.file;
    const { atime, mtime } = await stat(path);
    const handle = await open(path, "r+");
    await handle.write(Uint8Array.of(0x80, 0x40), 0, 2, tensor.offsetBytes);
    await handle.close();
    await utimes(path, atime, mtime);
    notices.length = 0;
    const second = await load(at);
    expect(second.from).toBe("files");
    expect(notices[0]).toMatch(/was made of other files, or for another device or version$/);
    expect(Buffer.compare(second.bits, first.bits)).not.toBe(0);
    expect(second.sha256).not.toEqual(first.sha256);
    expectSame(await load(at), second);
    await keptFile(at); // There is one, in place of the other.
  });

  it("for another folder with the same files", async () => {
    const at = await places();
    await load(at);
    await cp(at.model, `${at.model}-2`, { recursive: true });
    const other = await load({ ...at, model: `${at.model}-2` });
    expect(other.from).toBe("files");
    expect(await readdir(at.cache)).toHaveLength(2);
  });
});

describe("a run goes on", () => {
  async function expectNotKept(at: Places, reason: RegExp): Promise<void> {
    const base = await load(at);
    expect(base.from).toBe("files");
    expect(notices).toEqual([expect.stringMatching(/^note: the converted weights could not be kept: /)]);
    expect(notices[0]).toMatch(reason);
  }

  it.each([0, 1, 20])("on a disk that is full after %i writes, and nothing is left of it", async (writesLeft) => {
    const at = await places();
    disk.writesLeft = writesLeft;
    await expectNotKept(at, /cannot write: no space left on device$/);
    expect(await readdir(at.cache)).toEqual([]);
  });

  it("on a disk that has too little left, which is not filled", async () => {
    const at = await places();
    disk.freeBytes = 100_000;
    await expectNotKept(at, /takes 0\.\d MB, but the disk has 0\.1 MB left$/);
    expect(await readdir(at.cache)).toEqual([]);
  });

  it("where the cache cannot be made", async () => {
    const at = await places();
    await writeFile(at.cache, "a file");
    await expectNotKept(at, /cannot create/);
  });

  it("where the file system is read-only, which does not keep it from reading", async () => {
    const at = await places();
    const first = await load(at);
    const elsewhere = { ...at, cache: `${at.cache}-2` };
    disk.isReadOnly = true;
    expectSame(await load(at), first);
    notices.length = 0;
    await expectNotKept(elsewhere, /cannot write: read-only file system$/);
  });
});

it("what keeps it from going on is thrown, and nothing is left", async () => {
  const at = await places();
  const stop = new ExpectedError("stop", 130);
  const onKeeping = () => {
    throw stop;
  };
  await expect(load(at, "f16", { onKeeping })).rejects.toBe(stop);
  expect(await readdir(at.cache)).toEqual([]);
});

it("what a killed run left behind goes away when it is an hour old", async () => {
  const at = await places();
  const first = await load(at);
  const kept = await keptFile(at);
  const [old, fresh] = [".a.safetensors.0123.partial", ".b.safetensors.4567.partial"];
  for (const name of [old, fresh]) await writeFile(join(at.cache, name), "half a file");
  const hoursAgo = new Date(Date.now() - 2 * 3600 * 1000);
  await utimes(join(at.cache, old), hoursAgo, hoursAgo);
  await rm(kept);
  expectSame(await load(at), first);
  expect((await readdir(at.cache)).filter((name) => name.endsWith(".partial"))).toEqual([fresh]);
});
