import { describe, expect, it } from "vitest";
import { wholeBuffer } from "../../src/gpu/buffer.ts";
import { clear, encode } from "../../src/gpu/commands.ts";
import { RowCount } from "../../src/gpu/count.ts";
import { Gpu } from "../../src/gpu/gpu.ts";
import { readKernel } from "../../src/platform/kernels.ts";
import { useDevice } from "../device.ts";

const device = useDevice();
const lanesDevice = useDevice();
const fastDevice = useDevice({ profile: "fast" });

/** Another owner on the same device, whose buffers are counted from nothing. */
function freshGpu(): Gpu {
  return new Gpu(device.gpu.device, { kernelSource: readKernel });
}

const bytes = (...values: number[]) => Uint8Array.from(values);

describe("buffers", () => {
  it("are counted with their padding while they live, and at their peak", () => {
    const gpu = freshGpu();
    const [small, odd] = [gpu.buffer("small", 1), gpu.buffer("odd", 100)];
    expect([small.sizeBytes, odd.sizeBytes]).toEqual([16, 112]);
    gpu.uniform("words", new Uint32Array(5));
    expect(gpu.memory).toEqual({ liveBytes: 160, peakBytes: 160 });
    gpu.release(odd);
    gpu.release(odd);
    expect(gpu.memory).toEqual({ liveBytes: 48, peakBytes: 160 });
  });

  it("begin as zeros", async () => {
    const gpu = freshGpu();
    const [copy] = await gpu.read(wholeBuffer(gpu.buffer("new", 1000)));
    expect(new Uint8Array(copy!).every((value) => value === 0)).toBe(true);
    expect(copy!.byteLength).toBe(1008);
  });

  it("begin as zeros in memory that others have left dirty, also with checks off", async () => {
    const { gpu } = fastDevice;
    const sizes = [16, 1000, 2 ** 16, 2 ** 22];
    for (const sizeBytes of sizes) {
      const dirty = Array.from({ length: 8 }, () => gpu.buffer("dirty", sizeBytes));
      const ones = new Uint8Array(dirty[0]!.sizeBytes).fill(0xff);
      for (const buffer of dirty) gpu.write(buffer, 0, ones);
      await gpu.idle();
      for (const buffer of dirty) gpu.release(buffer);
      await gpu.idle();
    }
    for (const sizeBytes of sizes) {
      const fresh = Array.from({ length: 8 }, () => gpu.buffer("fresh", sizeBytes));
      gpu.write(fresh[0]!, 4, bytes(1, 2, 3, 4)); // The rest of a buffer that is written in part, too.
      const copies = await gpu.read(...fresh.map(wholeBuffer));
      for (const [i, copy] of copies.entries()) {
        const sum = new Uint8Array(copy).reduce((total, value) => total + value, 0);
        expect([sizeBytes, i, sum]).toEqual([sizeBytes, i, i === 0 ? 10 : 0]);
      }
      for (const buffer of fresh) gpu.release(buffer);
    }
  });

  it("keep what is written, though its memory is used again at once", async () => {
    const gpu = freshGpu();
    const buffer = gpu.buffer("written", 16);
    const data = bytes(9, 1, 2, 3, 4, 5, 6, 7, 8);
    gpu.write(buffer, 4, data.subarray(1));
    data.fill(0xff);
    const [copy] = await gpu.read(wholeBuffer(buffer));
    expect(new Uint8Array(copy!)).toEqual(bytes(0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0));
  });

  it("refuse a write past their end, by name", () => {
    const gpu = freshGpu();
    const buffer = gpu.buffer("short", 16);
    expect(() => gpu.write(buffer, 12, new Uint8Array(8))).toThrow(
      "internal: write of 8 bytes at 12 runs over the end of short",
    );
  });
});

describe("reads", () => {
  it("give several ranges in one round trip, each by itself", async () => {
    const gpu = freshGpu();
    const [a, b] = [gpu.buffer("a", 16), gpu.buffer("b", 16)];
    gpu.write(a, 0, bytes(1, 2, 3, 4, 5, 6, 7, 8));
    gpu.write(b, 0, bytes(9, 10, 11, 12));
    const [part, whole, none] = await gpu.read(
      { buffer: a, offsetBytes: 4, sizeBytes: 4 },
      { buffer: b, offsetBytes: 0, sizeBytes: 4 },
      { buffer: b, offsetBytes: 0, sizeBytes: 0 },
    );
    expect([part, whole, none].map((copy) => [...new Uint8Array(copy!)])).toEqual([[5, 6, 7, 8], [9, 10, 11, 12], []]);
  });

  it("may overlap, and reuse their staging buffers", async () => {
    const gpu = freshGpu();
    const buffers = [1, 2, 3].map((value) => {
      const buffer = gpu.buffer(`buffer ${value}`, 1024);
      gpu.write(buffer, 0, new Uint8Array(1024).fill(value));
      return buffer;
    });
    const readAll = () => Promise.all(buffers.map((buffer) => gpu.read(wholeBuffer(buffer))));
    for (const [i, [copy]] of (await readAll()).entries()) {
      expect(new Uint8Array(copy!).every((value) => value === i + 1)).toBe(true);
    }
    const { liveBytes } = gpu.memory;
    expect(liveBytes).toBe(6 * 1024);
    for (let repetition = 0; repetition < 3; repetition++) await readAll();
    expect(gpu.memory.liveBytes).toBe(liveBytes);
  });

  it("keep no more staging memory than is on its way at once, and none when it is released", async () => {
    const gpu = freshGpu();
    const buffer = gpu.buffer("a buffer", 4096);
    const read = (sizeBytes: number) => gpu.read({ buffer, offsetBytes: 0, sizeBytes });
    const stagingAfter = async (...sizes: number[]) => {
      await Promise.all(sizes.map(read));
      return gpu.memory.liveBytes - buffer.sizeBytes;
    };
    expect(await stagingAfter(4)).toBe(256);
    expect(await stagingAfter(1000)).toBe(1024); // In place of the smaller one.
    expect(await stagingAfter(4)).toBe(1024);
    expect(await stagingAfter(1024, 300)).toBe(1024 + 512);
    expect(await stagingAfter(4096)).toBe(4096);
    gpu.releaseStaging();
    expect(gpu.memory.liveBytes).toBe(buffer.sizeBytes);
    expect((await read(8))[0]!.byteLength).toBe(8);
  });

  it("see what was submitted before them", async () => {
    const gpu = freshGpu();
    const [from, to] = [gpu.buffer("from", 16), gpu.buffer("to", 16)];
    gpu.write(from, 0, bytes(1, 2, 3, 4, 5, 6, 7, 8));
    gpu.write(to, 0, new Uint8Array(16).fill(0xff));
    const encoder = gpu.device.createCommandEncoder();
    encode(gpu, encoder, [
      clear({ buffer: to, offsetBytes: 8, sizeBytes: 4 }),
      {
        kind: "copy",
        from: wholeBuffer(from),
        to: { buffer: to, offsetBytes: () => 4 },
        sizeBytes: () => 4,
      },
      { kind: "copy", from: wholeBuffer(from), to: { buffer: to, offsetBytes: () => 0 }, sizeBytes: () => 0 },
    ]);
    gpu.device.queue.submit([encoder.finish()]);
    const [copy] = await gpu.read(wholeBuffer(to));
    expect(new Uint8Array(copy!)).toEqual(
      bytes(0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff),
    );
  });
});

describe("pipelines", () => {
  it("are compiled once for each kernel, prelude, constants and bindings, in whatever order these are named", async () => {
    const { pipelines } = freshGpu();
    const variant = (constants: Record<string, number | boolean>) => ({ kernel: "elementwise/rope", constants });
    const accesses = ["read", "read", "readWrite"] as const;
    const first = pipelines.get(variant({ HEADS: 1, HALF: 2, ROW_STRIDE: 8, INVERSE: false }), accesses);
    const again = pipelines.get(variant({ INVERSE: false, ROW_STRIDE: 8, HALF: 2, HEADS: 1 }), accesses);
    const other = pipelines.get(variant({ HEADS: 1, HALF: 2, ROW_STRIDE: 8, INVERSE: true }), accesses);
    expect(again).toBe(first);
    expect(other).not.toBe(first);
    expect(pipelines.count).toBe(2);
    await pipelines.ready();
    expect(first.value()).toBe(again.value());
  });
});

describe("a row count", () => {
  it("is known to kernels and host, up to its maximum", async () => {
    const gpu = freshGpu();
    const count = new RowCount(gpu, "rows", 5);
    expect(count.value).toBe(0);
    count.set(5);
    expect(count.value).toBe(5);
    expect(() => count.set(6)).toThrow("internal: 6 rows in rows count of at most 5");
    expect(count.value).toBe(5);
  });
});

describe("reduction lanes", () => {
  it.each([
    [undefined, 32],
    [0, 32],
    [1, 4],
    [4, 4],
    [8, 8],
    [64, 64],
    [128, 64],
  ])("for subgroups of %s are %i", (subgroupSize, lanes) => {
    const gpu = new Gpu(lanesDevice.gpu.device, { kernelSource: readKernel, subgroupSize });
    expect(gpu.reductionLanes).toBe(lanes);
  });
});
