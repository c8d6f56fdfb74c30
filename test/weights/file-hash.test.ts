import { createHash } from "node:crypto";
import { open, utimes } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { createFileHash } from "../../src/weights/file-hash.ts";
import { openSafetensorsFile } from "../../src/weights/safetensors-file.ts";
import { inputErrorOf, patternBytes, safetensorsBytes, temporaryFolder } from "./fixtures.ts";

const LARGE_BYTES = 70 * 2 ** 20;

describe.each([
  ["in place", 1],
  ["in a thread", LARGE_BYTES],
])("%s", (_, sizeBytes) => {
  it("hashes bytes in the order in which they are given, and gives their memory back", async () => {
    const hash = createFileHash(sizeBytes);
    onTestFinished(() => hash.close());
    const whole = patternBytes(10_000);
    const parts = [0, 1, 4096, 4097, 10_000].map((end, i, ends) => whole.slice(ends[i - 1] ?? 0, end));
    const returned = await Promise.all(parts.map((part) => hash.update(Uint8Array.from(part))));
    expect(returned).toEqual(parts.map((part) => Uint8Array.from(part)));
    expect(await hash.digest()).toBe(createHash("sha256").update(whole).digest("hex"));
  });

  it("takes a part of a buffer, and leaves the rest of it as it is", async () => {
    const hash = createFileHash(sizeBytes);
    onTestFinished(() => hash.close());
    const buffer = Uint8Array.from(patternBytes(100)).buffer;
    const returned = await hash.update(new Uint8Array(buffer, 3, 50));
    expect([returned.byteOffset, returned.byteLength]).toEqual([3, 50]);
    expect(new Uint8Array(returned.buffer)).toEqual(Uint8Array.from(patternBytes(100)));
    expect(await hash.digest()).toBe(createHash("sha256").update(patternBytes(100).subarray(3, 53)).digest("hex"));
  });
});

it("a thread that is gone fails what waits for it, and what comes after", async () => {
  const hash = createFileHash(LARGE_BYTES);
  await hash.digest();
  // Node's Hash throws in the thread when it is asked once more.
  await expect(hash.digest()).rejects.toThrow("Digest already called");
  await expect(hash.update(new Uint8Array(1))).rejects.toThrow("Digest already called");
  await hash.close();
});

describe("a stream of a large file", () => {
  async function largeFile() {
    const path = join(await temporaryFolder(), "large.safetensors");
    const header = safetensorsBytes(`{"t":{"dtype":"U8","shape":[${LARGE_BYTES}],"data_offsets":[0,${LARGE_BYTES}]}}`);
    const handle = await open(path, "w");
    await handle.write(header);
    await handle.write(patternBytes(5000), 0, 5000, header.byteLength + LARGE_BYTES - 5000);
    await handle.close();
    const file = await openSafetensorsFile(path);
    onTestFinished(() => file.close());
    const expected = createHash("sha256")
      .update(header)
      .update(new Uint8Array(LARGE_BYTES - 5000));
    return { path, file, sha256Hex: expected.update(patternBytes(5000)).digest("hex") };
  }

  it("gives its bytes and its hash", async () => {
    const { file, sha256Hex } = await largeFile();
    let next = 0;
    for await (const { firstElement, bytes } of file.stream()) {
      expect(firstElement).toBe(next);
      next += bytes.byteLength;
      if (next === LARGE_BYTES) expect(bytes.subarray(-5000)).toEqual(patternBytes(5000));
    }
    expect(next).toBe(LARGE_BYTES);
    expect(file.sha256Hex).toBe(sha256Hex);
  });

  it("without the hash where none is asked for", async () => {
    const { file } = await largeFile();
    let sizeBytes = 0;
    for await (const { bytes } of file.stream({ sha256: false })) sizeBytes += bytes.byteLength;
    expect(sizeBytes).toBe(LARGE_BYTES);
    expect(file.sha256Hex).toBeUndefined();
  });

  it("notices a change, and may be left early", async () => {
    const { path, file } = await largeFile();
    const message = await inputErrorOf(async () => {
      for await (const _ of file.stream()) await utimes(path, new Date(0), new Date(0));
    });
    expect(message).toContain("the file was changed while it was read");
    for await (const _ of file.stream()) break;
    expect(file.sha256Hex).toBeUndefined();
  });
});
