import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { open, readFile, symlink, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { openSafetensorsFile, type SafetensorsFile, wholeRows } from "../../src/weights/safetensors-file.ts";
import { inputErrorOf, patternBytes, safetensorsBytes, temporaryFolder, tensorFile } from "./fixtures.ts";

const SHARD = new URL("../../examples/twin-tiny/model/model-00001-of-00002.safetensors", import.meta.url).pathname;

async function openBytes(bytes: Uint8Array): Promise<SafetensorsFile> {
  const path = join(await temporaryFolder(), "m.safetensors");
  await writeFile(path, bytes);
  return openForTest(path);
}

async function openForTest(path: string): Promise<SafetensorsFile> {
  const file = await openSafetensorsFile(path);
  onTestFinished(() => file.close());
  return file;
}

/** All data by tensor, put together from the pieces, and the pieces' places. */
async function collect(file: SafetensorsFile, options?: Parameters<SafetensorsFile["stream"]>[0]) {
  const data = new Map<string, Buffer>();
  const pieces: [string, number, number][] = [];
  for await (const { tensor, firstElement, elements, bytes } of file.stream(options)) {
    const before = data.get(tensor.name) ?? Buffer.alloc(0);
    expect(before.byteLength / (tensor.sizeBytes / tensor.elements)).toBe(firstElement);
    data.set(tensor.name, Buffer.concat([before, bytes]));
    pieces.push([tensor.name, firstElement, elements]);
  }
  return { data, pieces };
}

const sample = tensorFile({
  matrix: { dtype: "F32", shape: [5, 3], data: patternBytes(60) },
  empty: { dtype: "F32", shape: [0, 4], data: new Uint8Array(0) },
  odd: { dtype: "U8", shape: [7], data: patternBytes(7) },
  half: { dtype: "BF16", shape: [2, 2, 3], data: patternBytes(24).reverse() },
  scalar: { dtype: "F32", shape: [], data: patternBytes(4) },
});

describe("stream", () => {
  test.each([4, 5, 8, 13, 24, 60, 1000])(
    "in chunks of %i bytes: all data, in order, and the hash",
    async (chunkBytes) => {
      const file = await openBytes(sample);
      expect(file.sha256Hex).toBeUndefined();
      const { data, pieces } = await collect(file, { chunkBytes });
      expect([...data.keys()]).toEqual(["matrix", "odd", "half", "scalar"]);
      for (const [name, bytes] of data) {
        const { offsetBytes, sizeBytes } = file.header.tensors.get(name)!;
        expect(bytes).toEqual(Buffer.from(sample.subarray(offsetBytes, offsetBytes + sizeBytes)));
      }
      for (const [name, , elements] of pieces) {
        expect(elements * (name === "odd" ? 1 : name === "half" ? 2 : 4)).toBeLessThanOrEqual(chunkBytes);
      }
      expect(file.sha256Hex).toBe(createHash("sha256").update(sample).digest("hex"));
    },
  );

  test("in whole rows", async () => {
    const file = await openBytes(sample);
    const { pieces } = await collect(file, { chunkBytes: 25, pieceElements: wholeRows });
    expect(pieces).toEqual([
      ["matrix", 0, 6],
      ["matrix", 6, 6],
      ["matrix", 12, 3],
      ["odd", 0, 7],
      ["half", 0, 12],
      ["scalar", 0, 1],
    ]);
  });

  test("a row that is longer than a chunk is refused by name", async () => {
    const file = await openBytes(sample);
    const message = await inputErrorOf(() => collect(file, { chunkBytes: 11, pieceElements: wholeRows }));
    expect(message).toContain('tensor "matrix": is read in units of 12 bytes');
    expect(message).toContain("chunk of 11 bytes");
  });

  test("the next piece is read while this one is used, but this one stays as it is", async () => {
    const file = await openBytes(sample);
    for await (const { tensor, firstElement, bytes } of file.stream({ chunkBytes: 8 })) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      const begin = tensor.offsetBytes + firstElement * (tensor.sizeBytes / tensor.elements);
      expect(Buffer.from(bytes)).toEqual(Buffer.from(sample.subarray(begin, begin + bytes.byteLength)));
    }
  });

  test("stopped early, it leaves no hash and lets the file be closed", async () => {
    const file = await openBytes(sample);
    for await (const piece of file.stream({ chunkBytes: 4 })) {
      expect(piece.firstElement).toBe(0);
      break;
    }
    await file.close();
    expect(file.sha256Hex).toBeUndefined();
  });

  test("a file without tensors has a hash too", async () => {
    const bytes = safetensorsBytes("{}");
    const file = await openBytes(bytes);
    expect((await collect(file)).pieces).toEqual([]);
    expect(file.sha256Hex).toBe(createHash("sha256").update(bytes).digest("hex"));
  });

  test("a real shard", async () => {
    const file = await openForTest(SHARD);
    const bytes = await readFile(SHARD);
    const { data } = await collect(file, { chunkBytes: 100_000, pieceElements: wholeRows });
    const [last] = [...file.header.tensors.values()].slice(-1);
    expect(data.size).toBe(file.header.tensors.size);
    expect(Buffer.concat([...data.values()]).equals(bytes.subarray(file.header.dataOffsetBytes))).toBe(true);
    expect(last!.offsetBytes + last!.sizeBytes).toBe(bytes.byteLength);
    expect(file.sha256Hex).toBe(createHash("sha256").update(bytes).digest("hex"));
  });
});

describe("readRows", () => {
  test("gives rows of matrices, elements of vectors, and scalars", async () => {
    const file = await openBytes(sample);
    const at = (name: string, begin: number, length: number) => {
      const { offsetBytes } = file.header.tensors.get(name)!;
      return sample.slice(offsetBytes + begin, offsetBytes + begin + length);
    };
    expect(await file.readRows("matrix", 1, 3)).toEqual(Uint8Array.from(at("matrix", 12, 24)));
    expect(await file.readRows("matrix", 5, 5)).toEqual(new Uint8Array(0));
    expect(await file.readRows("odd", 2, 7)).toEqual(Uint8Array.from(at("odd", 2, 5)));
    expect(await file.readRows("half", 1, 2)).toEqual(Uint8Array.from(at("half", 12, 12)));
    expect(await file.readRows("empty", 0, 0)).toEqual(new Uint8Array(0));
    expect(await file.readTensor("scalar")).toEqual(Uint8Array.from(at("scalar", 0, 4)));
    expect(await file.readTensor("half")).toEqual(Uint8Array.from(at("half", 0, 24)));
  });

  test("rows that are not there are a caller's mistake", async () => {
    const file = await openBytes(sample);
    await expect(file.readRows("matrix", 4, 6)).rejects.toThrow(RangeError);
    await expect(file.readRows("matrix", 3, 2)).rejects.toThrow(RangeError);
    await expect(file.readRows("matrix", -1, 2)).rejects.toThrow(RangeError);
    await expect(file.readRows("none", 0, 1)).rejects.toThrow(RangeError);
  });

  test("beyond 4 GiB", async () => {
    const path = join(await temporaryFolder(), "large.safetensors");
    const rows = 1_200_000;
    const dataBytes = rows * 4096;
    const header = `{"t":{"dtype":"F32","shape":[${rows},1024],"data_offsets":[0,${dataBytes}]}}`;
    await writeFile(path, safetensorsBytes(header));
    const handle = await open(path, "r+");
    const marker = patternBytes(4096);
    await handle.write(marker, 0, 4096, 8 + header.length + (rows - 1) * 4096);
    await handle.close();
    const file = await openForTest(path);
    expect(file.sizeBytes).toBeGreaterThan(2 ** 32);
    expect(await file.readRows("t", rows - 1, rows)).toEqual(marker);
    expect(await file.readRows("t", rows - 2, rows - 1)).toEqual(new Uint8Array(4096));
  });
});

describe("files that change", () => {
  test("one that shrinks while it is streamed", async () => {
    const path = join(await temporaryFolder(), "m.safetensors");
    await writeFile(path, sample);
    const file = await openForTest(path);
    const message = await inputErrorOf(async () => {
      for await (const _ of file.stream({ chunkBytes: 4 })) await truncate(path, sample.byteLength - 20);
    });
    expect(message).toContain(`${path}: the file became shorter while it was read`);
    expect(file.sha256Hex).toBeUndefined();
  });

  test("one that shrinks before rows are read", async () => {
    const path = join(await temporaryFolder(), "m.safetensors");
    await writeFile(path, sample);
    const file = await openForTest(path);
    await truncate(path, sample.byteLength - 2);
    const message = await inputErrorOf(() => file.readTensor("scalar"));
    expect(message).toContain("4 bytes were expected");
    expect(message).toContain("found 2");
  });

  test("one that is written to while it is streamed", async () => {
    const path = join(await temporaryFolder(), "m.safetensors");
    await writeFile(path, sample);
    const file = await openForTest(path);
    const message = await inputErrorOf(async () => {
      for await (const _ of file.stream()) await utimes(path, new Date(0), new Date(0));
    });
    expect(message).toContain("the file was changed while it was read");
  });
});

describe("what cannot be opened", () => {
  test("a file that is not there, a folder, a pipe, another format", async () => {
    const folder = await temporaryFolder();
    expect(await inputErrorOf(() => openSafetensorsFile(join(folder, "x.safetensors")))).toMatch(
      /x\.safetensors: cannot open: no such file or directory$/,
    );
    expect(await inputErrorOf(() => openSafetensorsFile(folder))).toContain("must be a file");
    expect(await inputErrorOf(() => openSafetensorsFile(join(folder, "pytorch_model.bin")))).toContain("safetensors");
    await symlink("loop.safetensors", join(folder, "loop.safetensors"));
    expect(await inputErrorOf(() => openSafetensorsFile(join(folder, "loop.safetensors")))).toContain("cannot open");
    if (process.platform === "win32") return;
    execFileSync("mkfifo", [join(folder, "pipe.safetensors")]);
    expect(await inputErrorOf(() => openSafetensorsFile(join(folder, "pipe.safetensors")))).toContain("must be a file");
  });

  test("a header that claims 100 MB in a small file allocates nothing and is refused", async () => {
    const bytes = Buffer.alloc(16);
    bytes.writeBigUInt64LE(100_000_000n);
    expect(await inputErrorOf(() => openBytes(bytes))).toContain("at most the 8 bytes that the file has after it");
  });

  test("a file cut at any byte", async () => {
    const path = join(await temporaryFolder(), "m.safetensors");
    await writeFile(path, sample);
    for (let length = sample.byteLength - 1; length >= 0; length--) {
      await truncate(path, length);
      await inputErrorOf(() => openSafetensorsFile(path));
    }
  });
});
