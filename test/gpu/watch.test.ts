import { setMaxListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { DeviceError } from "../../src/errors.ts";
import { type BufferRange, readWrite, wholeBuffer } from "../../src/gpu/buffer.ts";
import { type Command, clear, dispatch, record } from "../../src/gpu/commands.ts";
import { Gpu } from "../../src/gpu/gpu.ts";
import { GUARD_BYTES } from "../../src/gpu/watch.ts";
import { readKernel } from "../../src/platform/kernels.ts";
import { useDevice } from "../device.ts";
import { withFaultyQueue } from "./faulty-queue.mjs";

setMaxListeners(0); // Of a device that many tests watch.

const device = useDevice();
const unchecked = useDevice({ profile: "fast" });

/** Adds 1 to every word of its binding, and to `BEYOND` words behind it. */
const ADD_ONE = `override BEYOND: u32;
@group(0) @binding(0) var<storage, read_write> y: array<u32>;
@compute @workgroup_size(1)
fn main() {
  for (var i = 0u; i < arrayLength(&y) + BEYOND; i++) {
    y[i] += 1u;
  }
}
`;

async function watched(raw: GPUDevice = device.gpu.device, isLost = (_submission: number) => false): Promise<Gpu> {
  const kernelSource = (name: string) => (name === "add/one" ? ADD_ONE : readKernel(name));
  const gpu = new Gpu(withFaultyQueue(raw, isLost), { kernelSource, watch: true });
  await gpu.pipelines.ready();
  return gpu;
}

async function addOne(gpu: Gpu, range: BufferRange, beyond = 0): Promise<Command> {
  const variant = { kernel: "add/one", constants: { BEYOND: beyond } };
  const command = dispatch(gpu, variant, [readWrite(range)], () => [1, 1, 1]);
  await gpu.pipelines.ready();
  return command;
}

describe("a watched device on which nothing goes wrong", () => {
  it("has buffers that begin as zeros, and writes, copies, clears, kernels and reads at the right place", async () => {
    const gpu = await watched();
    const [x, y] = [wholeBuffer(gpu.buffer("x", 1040)), wholeBuffer(gpu.buffer("y", 1040))];
    const wordsOf = async (range: BufferRange) => new Uint32Array((await gpu.read(range))[0]!);
    expect(await wordsOf(x)).toEqual(new Uint32Array(260));
    gpu.write(
      x.buffer,
      256,
      Uint32Array.from({ length: 196 }, (_, i) => 64 + i),
    );
    const second = { ...x, offsetBytes: 256, sizeBytes: 784 };
    const copy: Command = {
      kind: "copy",
      from: second,
      to: { buffer: y.buffer, offsetBytes: () => 256 },
      sizeBytes: () => 784,
    };
    gpu.submit(record(gpu, "some work", [await addOne(gpu, second), copy, clear({ ...x, sizeBytes: 512 })]));
    expect(await wordsOf(x)).toEqual(Uint32Array.from({ length: 260 }, (_, i) => (i < 128 ? 0 : i + 1)));
    expect(await wordsOf({ ...y, offsetBytes: 252, sizeBytes: 12 })).toEqual(Uint32Array.of(0, 65, 66));
    await gpu.idle();
  });

  it("takes no more memory than two guards for each buffer, and little besides", async () => {
    const gpu = await watched();
    const before = gpu.memory.liveBytes;
    expect(before).toBeLessThan(300_000);
    const buffers = Array.from({ length: 100 }, (_, i) => gpu.buffer(`buffer ${i}`, 16));
    expect(gpu.memory.liveBytes).toBe(before + 100 * (16 + 2 * GUARD_BYTES));
    await gpu.idle();
    for (const buffer of buffers) gpu.release(buffer);
    await gpu.idle();
    expect(gpu.memory.liveBytes).toBeLessThan(before + 100 * 16 + 2 ** 17);
  });

  it("goes on when more is submitted than its log can name", async () => {
    const gpu = await watched();
    const y = wholeBuffer(gpu.buffer("y", 16));
    const command = await addOne(gpu, y);
    for (let i = 0; i < 200; i++) gpu.submit(record(gpu, `work ${i % 3}`, [command]));
    expect(new Uint32Array((await gpu.read(y))[0]!)[3]).toBe(200);
  });

  it("proves reads that are on their way at once, in any order", async () => {
    const gpu = await watched();
    const y = wholeBuffer(gpu.buffer("y", 16));
    const command = await addOne(gpu, y);
    const results = Array.from({ length: 9 }, () => {
      const readback = gpu.readback({ ...y, sizeBytes: 4 });
      gpu.submit(record(gpu, "work", [command], readback));
      return readback;
    });
    const found = await Promise.all(results.toReversed().map((readback) => readback.finish()));
    expect(found.map(([copy]) => new Uint32Array(copy!)[0])).toEqual([9, 8, 7, 6, 5, 4, 3, 2, 1]);
  });

  it("is not watched unless asked: no guards, and no buffers", () => {
    const gpu = new Gpu(device.gpu.device, { kernelSource: readKernel });
    expect(gpu.watch).toBeNull();
    expect(gpu.memory.liveBytes).toBe(0);
    expect(gpu.buffer("y", 16)).toMatchObject({ baseBytes: 0 });
    expect(gpu.memory.liveBytes).toBe(16);
  });
});

describe("a driver that drops what was submitted, and says nothing", () => {
  const LOSSES: [string, number, string][] = [
    ["before the results", 2, "backward"],
    ["with the copies of the results", 3, "read"],
    ["of which the first was whole", 1, "forward"],
  ];
  it.each(LOSSES)("%s, is told of, with what it dropped", async (_, lost, name) => {
    const gpu = await watched(device.gpu.device, (submission) => submission === lost);
    const y = wholeBuffer(gpu.buffer("y", 16));
    const command = await addOne(gpu, y);
    await gpu.read(y);
    gpu.submit(record(gpu, "forward", [command]));
    gpu.submit(record(gpu, "backward", [command]));
    const read = gpu.read(y);
    await expect(read).rejects.toThrow(DeviceError);
    await expect(read).rejects.toThrow(
      new RegExp(
        `^--watch: the GPU's driver has dropped work in silence: the command buffer "${name}" was submitted, reported as done, and never ran to its end \\(3 of 4 did\\); what was computed cannot be trusted: update the GPU's driver, lower max_tokens_per_batch, `,
      ),
    );
    await expect(gpu.idle()).rejects.toThrow("dropped work in silence");
    expect(() => gpu.buffer("z", 16)).toThrow("dropped work in silence");
  });

  it("long before the results, is told of, without a name", async () => {
    const gpu = await watched(device.gpu.device, (submission) => submission === 1);
    const y = wholeBuffer(gpu.buffer("y", 16));
    const command = await addOne(gpu, y);
    for (let i = 0; i < 200; i++) gpu.submit(record(gpu, "work", [command]));
    await expect(gpu.read(y)).rejects.toThrow(/dropped work in silence: .* \(200 of 201 did\)/);
  });

  it("goes unseen without it", async () => {
    const gpu = new Gpu(
      withFaultyQueue(device.gpu.device, () => true),
      { kernelSource: readKernel },
    );
    const y = wholeBuffer(gpu.buffer("y", 16));
    await expect(gpu.read(y)).resolves.toHaveLength(1);
  });
});

describe("a write outside of a buffer", () => {
  it.each([
    ["behind the end", { offsetBytes: 0, sizeBytes: 48 }, "4 guard words are damaged, first 0 bytes behind the end"],
    [
      "before the start",
      { offsetBytes: -GUARD_BYTES, sizeBytes: 272 },
      "64 guard words are damaged, first 256 bytes before the start",
    ],
  ])("%s is told of, with the buffer and who has written to it", async (_, bound, where) => {
    const gpu = await watched();
    const [x, y] = [wholeBuffer(gpu.buffer("x", 32)), gpu.buffer("layer 3 gate", 32)];
    // The driver is told of a longer buffer, so that nothing keeps the write from happening.
    const wrong = await addOne(gpu, { buffer: y, ...bound });
    const right = await addOne(gpu, x);
    await gpu.read(x);
    gpu.submit(record(gpu, "forward", [right, wrong, right]));
    const read = gpu.read(x);
    await expect(read).rejects.toThrow(DeviceError);
    await expect(read).rejects.toThrow(
      `--watch: something on the GPU has written outside of its buffer: ${where} of layer 3 gate (32 bytes); since the last check it was written by add/one (forward); what was computed`,
    );
  });

  // A driver may keep it inside by itself, as lavapipe does; none may let it go anywhere else.
  it("of a kernel whose binding ends with the buffer is told of, or has not happened", async () => {
    const gpu = await watched(unchecked.gpu.device);
    const y = wholeBuffer(gpu.buffer("y", 32));
    gpu.submit(record(gpu, "forward", [await addOne(gpu, y, 3)]));
    const [seen] = await Promise.allSettled([gpu.read(y)]);
    const { gpu: plain } = unchecked;
    const isKept = /llvmpipe/i.test((plain.device as { adapterInfo?: GPUAdapterInfo }).adapterInfo?.description ?? "");
    expect(seen.status).toBe(isKept ? "fulfilled" : "rejected");
  });

  it("to a buffer that is gone when the results are there is told of with its name", async () => {
    const gpu = await watched();
    const [x, y] = [wholeBuffer(gpu.buffer("x", 32)), gpu.buffer("y", 32)];
    const wrong = await addOne(gpu, { buffer: y, offsetBytes: 0, sizeBytes: 36 });
    gpu.submit(record(gpu, "forward", [wrong]));
    const read = gpu.read(x);
    gpu.release(y);
    await expect(read).rejects.toThrow("1 guard words are damaged, first 0 bytes behind the end of y (32 bytes)");
  });
});

describe("results that the commands should have written", () => {
  async function readRewritten(range: BufferRange, written: BufferRange | null, gpu: Gpu): Promise<Uint32Array> {
    const readback = gpu.readback({ ...range, isRewritten: true });
    const commands = written ? [clear(written)] : [];
    gpu.submit(record(gpu, "forward", commands, readback));
    return new Uint32Array((await readback.finish())[0]!);
  }

  it("are what they have written, also where the results are large", async () => {
    const gpu = await watched();
    const y = wholeBuffer(gpu.buffer("y", 600_000));
    expect(await readRewritten(y, y, gpu)).toEqual(new Uint32Array(150_000));
  });

  it.each([
    ["all", null, 150_000],
    ["the last", { offsetBytes: 0, sizeBytes: 599_996 }, 1],
    ["the first", { offsetBytes: 4, sizeBytes: 599_996 }, 1],
  ])("are told of where they lack %s", async (_, written, lost) => {
    const gpu = await watched();
    const y = wholeBuffer(gpu.buffer("head state", 600_000));
    const read = readRewritten(y, written && { buffer: y.buffer, ...written }, gpu);
    await expect(read).rejects.toThrow(
      `--watch: the GPU has lost results in silence: ${lost} of 150000 words of head state were never written; what`,
    );
  });
});
