import { describe, expect, it, onTestFinished } from "vitest";
import { DeviceError, OutOfMemoryError } from "../../src/errors.ts";
import { read, readWrite, uniform, wholeBuffer } from "../../src/gpu/buffer.ts";
import { dispatch, encode } from "../../src/gpu/commands.ts";
import { RowCount } from "../../src/gpu/count.ts";
import { Gpu } from "../../src/gpu/gpu.ts";
import { createMatrix } from "../../src/ops/matrix.ts";
import { rmsNormForward } from "../../src/ops/norm.ts";
import { openDevice } from "../../src/platform/dawn.ts";
import { readKernel } from "../../src/platform/kernels.ts";
import { TEST_DEVICE, useDevice } from "../device.ts";

const device = useDevice();

const SOURCES: Record<string, string> = {
  "broken/name": `// A comment, so that the mistake is not in the first line.
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1)
fn main() {
  y[0] = wrong + 1.0;
}
`,
  "needs/overrides": `override COUNT: u32;
override OTHER: f32;
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1)
fn main() {
  y[0] = f32(COUNT) + OTHER;
}
`,
  "calls/library": `@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1)
fn main() {
  y[0] = one();
}
`,
  "library/one": "fn one() -> f32 {\n  return 1.0;\n}\n",
  "library/broken": "fn two() -> f32 {\n  return wrong;\n}\n",
};

/** The device with kernels of this file. */
function withSources(): Gpu {
  return new Gpu(device.gpu.device, { kernelSource: (name) => SOURCES[name] ?? readKernel(name) });
}

/** A device of a test's own, which may be lost. */
async function ownDevice(): Promise<Gpu> {
  const opened = await openDevice({ device: TEST_DEVICE, profile: "safe" });
  onTestFinished(opened.close);
  return opened.gpu;
}

describe("a shader that is wrong", () => {
  it("is an error with file, line, column and the line itself, whatever stands in front of the kernel", async () => {
    const { pipelines } = withSources();
    for (const front of [{}, { library: ["one"], prelude: { "const A": "1.0", "alias Vec": "vec4f" } }]) {
      const pipeline = pipelines.get({ kernel: "broken/name", ...front }, ["readWrite"]);
      await expect(pipeline.ready).rejects.toThrow(
        /^internal: shader error\nkernels\/broken\/name\.wgsl:5:10: .*wrong.*\n {4} {2}y\[0\] = wrong \+ 1\.0;$/,
      );
      expect(() => pipeline.value()).toThrow("internal: pipeline broken/name was used before it was ready");
    }
    await expect(pipelines.ready()).rejects.toThrow("kernels/broken/name.wgsl:5:10");
  });

  it("is an error that says so where the mistake is in a library file", async () => {
    const pipeline = withSources().pipelines.get({ kernel: "calls/library", library: ["one", "broken"] }, [
      "readWrite",
    ]);
    await expect(pipeline.ready).rejects.toThrow(
      /in front of kernels\/calls\/library\.wgsl, line 5: .*wrong.*\n.*return wrong;/,
    );
  });

  it("leaves the device usable", async () => {
    await expect(device.gpu.idle()).resolves.toBeUndefined();
  });
});

describe("override constants", () => {
  it.each([
    ["forgotten", { COUNT: 1 }, /OTHER/],
    ["unknown", { COUNT: 1, OTHER: 1, COUNTS: 3 }, /COUNTS/],
    ["outside their type", { COUNT: -1, OTHER: 1 }, /COUNT/],
  ])("%s are named, with the kernel", async (_, constants, name) => {
    const { ready } = withSources().pipelines.get({ kernel: "needs/overrides", constants }, ["readWrite"]);
    await expect(ready).rejects.toThrow(name);
    await expect(ready).rejects.toThrow("needs/overrides");
  });
});

describe("a dispatch", () => {
  it("of more than 65,535 workgroups throws instead of doing nothing", async () => {
    const { gpu } = device;
    const rows = 65_536;
    const count = new RowCount(gpu, "many rows", rows);
    const [x, y] = [createMatrix(gpu, "x", rows, 8), createMatrix(gpu, "y", rows, 8)];
    const rstd = wholeBuffer(gpu.buffer("rstd", rows * 4));
    const w = wholeBuffer(gpu.buffer("w", 32));
    const commands = rmsNormForward(gpu, { count, x, w, eps: 1e-5, y, rstd });
    await gpu.pipelines.ready();
    const encoder = () => gpu.device.createCommandEncoder();
    count.set(rows);
    expect(() => encode(gpu, encoder(), commands)).toThrow(
      "internal: norm/rms_forward dispatches 65536 x 1 x 1 workgroups, over the limit",
    );
    count.set(rows - 1);
    expect(() => encode(gpu, encoder(), commands)).not.toThrow();
  });

  it("of more bytes than a binding may have throws with the buffer's name", async () => {
    const gpu = new Gpu(device.gpu.device, { kernelSource: readKernel, bindingLimitBytes: 1024 });
    const big = wholeBuffer(gpu.buffer("the big one", 1040));
    const variant = { kernel: "elementwise/gather_rows", constants: { ROW_VECS: 2 } };
    expect(() => dispatch(gpu, variant, [read(big), read(big), readWrite(big)], () => [1, 1, 1])).toThrow(
      "internal: elementwise/gather_rows binds 1040 bytes of the big one, over the limit of 1024",
    );
    await gpu.pipelines.ready();
  });

  it("with a pipeline that is not compiled yet throws", async () => {
    const gpu = withSources();
    const y = wholeBuffer(gpu.buffer("y", 16));
    const variant = { kernel: "needs/overrides", constants: { COUNT: 7, OTHER: 0.5 } };
    const command = dispatch(gpu, variant, [readWrite(y)], () => [1, 1, 1]);
    expect(() => encode(gpu, gpu.device.createCommandEncoder(), [command])).toThrow(
      "internal: pipeline needs/overrides was used before it was ready",
    );
    await gpu.pipelines.ready();
    const encoder = gpu.device.createCommandEncoder();
    encode(gpu, encoder, [command]);
    gpu.device.queue.submit([encoder.finish()]);
    expect(new Float32Array((await gpu.read(y))[0]!)[0]).toBe(7.5);
  });
});

describe("what WebGPU refuses without throwing", () => {
  it("is thrown by the next wait, and from then on", async () => {
    const gpu = await ownDevice();
    const small = gpu.buffer("small", 16);
    const tooMuch = { buffer: small, offsetBytes: 0, sizeBytes: 32 };
    await expect(gpu.read(tooMuch)).rejects.toThrow(/^internal: WebGPU error: .*"small"/s);
    await expect(gpu.idle()).rejects.toThrow('"small"');
    expect(() => gpu.throwIfFailed()).toThrow('"small"');
    expect(() => gpu.buffer("another", 16)).toThrow('"small"');
  });

  it("names a uniform that is bound as storage", async () => {
    const gpu = await ownDevice();
    const words = gpu.uniform("words", new Uint32Array(4));
    const range = wholeBuffer(words);
    const variant = { kernel: "elementwise/gather_rows", constants: { ROW_VECS: 2 } };
    expect(uniform(words).range).toEqual(range);
    dispatch(gpu, variant, [read(range), read(range), readWrite(range)], () => [1, 1, 1]);
    await gpu.pipelines.ready();
    await expect(gpu.idle()).rejects.toThrow(/^internal: WebGPU error: .*words/s);
  });
});

describe("memory that is not there", () => {
  it("a buffer above the adapter's limit is a DeviceError with its name and both sizes, and is not counted", () => {
    const { gpu } = device;
    const before = gpu.memory;
    const limit = gpu.device.limits.maxBufferSize;
    const tooBig = Math.ceil((limit + 1) / 16) * 16;
    const make = () => gpu.buffer("everything", tooBig);
    expect(make).toThrow(DeviceError);
    expect(make).toThrow(`buffer everything needs ${tooBig} bytes, this adapter allows ${limit} per buffer`);
    expect(gpu.memory).toEqual(before);
  });

  it("that the driver reports is an OutOfMemoryError with what was asked for", async () => {
    const gpu = await ownDevice();
    gpu.buffer("x", 1000);
    const error = new GPUOutOfMemoryError("Failed to allocate");
    gpu.device.dispatchEvent(new GPUUncapturedErrorEvent("uncapturederror", { error }));
    await expect(gpu.idle()).rejects.toThrow(OutOfMemoryError);
    await expect(gpu.idle()).rejects.toThrow(
      /^the GPU is out of memory with 1008 bytes asked of it: Failed to allocate$/,
    );
  });

  it("above a limit that was asked for is an OutOfMemoryError with all three sizes, and is not counted", () => {
    const gpu = new Gpu(device.gpu.device, { kernelSource: readKernel, memoryLimitBytes: 1024 });
    const first = gpu.buffer("first", 1000);
    const make = () => gpu.buffer("second", 32);
    expect(make).toThrow(OutOfMemoryError);
    expect(make).toThrow("the GPU is out of memory: second needs 32 bytes, 1008 of 1024 are taken");
    expect(gpu.memory).toEqual({ liveBytes: 1008, peakBytes: 1008 });
    gpu.release(first);
    expect(make).not.toThrow();
  });
});

describe("a device that is lost", () => {
  it("makes the next read a DeviceError, and every wait after it", async () => {
    const gpu = await ownDevice();
    const range = wholeBuffer(gpu.buffer("x", 16));
    gpu.device.destroy();
    await expect(gpu.read(range)).rejects.toThrow(DeviceError);
    await expect(gpu.read(range)).rejects.toThrow(/^the GPU device was lost \(destroyed\): /);
    await expect(gpu.idle()).rejects.toThrow(DeviceError);
    expect(() => gpu.buffer("y", 16)).toThrow(DeviceError);
  });

  it("fails the reads that are on their way", async () => {
    const gpu = await ownDevice();
    const range = wholeBuffer(gpu.buffer("x", 16));
    const reads = Promise.allSettled([gpu.read(range), gpu.read(range), gpu.idle()]);
    gpu.device.destroy();
    for (const outcome of await reads) {
      expect(outcome).toMatchObject({ status: "rejected", reason: expect.any(DeviceError) });
    }
  });

  it("is not lost but closed when we close it, and yet nothing can be read any more", async () => {
    const { gpu, close } = await openDevice({ device: TEST_DEVICE, profile: "safe" });
    const range = wholeBuffer(gpu.buffer("x", 16));
    close();
    await expect(gpu.read(range)).rejects.toThrow(DeviceError);
    expect(() => gpu.throwIfFailed()).not.toThrow();
  });
});
