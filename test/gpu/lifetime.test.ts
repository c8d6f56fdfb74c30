import { describe, expect, it } from "vitest";
import { encode } from "../../src/gpu/commands.ts";
import { RowCount } from "../../src/gpu/count.ts";
import { matmulNT } from "../../src/ops/matmul.ts";
import { createMatrix } from "../../src/ops/matrix.ts";
import { openDevice } from "../../src/platform/dawn.ts";
import { TEST_DEVICE, useDevice } from "../device.ts";

const device = useDevice();

describe("collect", () => {
  it("lists the buffers made meanwhile, inner ones included, and no others", () => {
    const { gpu } = device;
    gpu.buffer("before", 16);
    const before = gpu.memory.liveBytes;
    const { value, buffers } = gpu.collect(() => {
      gpu.buffer("first", 32);
      const inner = gpu.collect(() => gpu.uniform("second", new Uint32Array(4)));
      expect(inner.buffers.map(({ label }) => label)).toEqual(["second"]);
      return "made";
    });
    gpu.buffer("after", 64);
    expect(value).toBe("made");
    expect(buffers.map(({ label }) => label)).toEqual(["first", "second"]);
    for (const buffer of buffers) gpu.release(buffer);
    expect(gpu.memory.liveBytes).toBe(before + 64);
  });

  it("releases them when it fails", () => {
    const { gpu } = device;
    const before = gpu.memory.liveBytes;
    const fail = () => {
      gpu.buffer("lost", 1024);
      throw new Error("no more");
    };
    expect(() => gpu.collect(fail)).toThrow("no more");
    expect(gpu.memory.liveBytes).toBe(before);
  });
});

describe("idle", () => {
  it("waits for the work that was submitted", async () => {
    const { gpu } = device;
    const count = new RowCount(gpu, "rows", 64);
    count.set(64);
    const [x, w, y] = [
      createMatrix(gpu, "x", 64, 512),
      createMatrix(gpu, "w", 512, 512),
      createMatrix(gpu, "y", 64, 512),
    ];
    const commands = matmulNT(gpu, { count, x, w, y });
    await gpu.pipelines.ready();
    const encoder = gpu.device.createCommandEncoder();
    for (let i = 0; i < 20; i++) encode(gpu, encoder, commands);
    gpu.device.queue.submit([encoder.finish()]);
    let isDone = false;
    const done = gpu.device.queue.onSubmittedWorkDone().then(() => {
      isDone = true;
    });
    await gpu.idle();
    expect(isDone).toBe(true);
    await done;
  });

  it("throws what has gone wrong on the device", async () => {
    const { gpu, close } = await openDevice({ device: TEST_DEVICE, profile: "safe" });
    try {
      await gpu.idle();
      const encoder = gpu.device.createCommandEncoder();
      const { raw } = gpu.buffer("small", 16);
      encoder.copyBufferToBuffer(raw, 0, raw, 1024, 16);
      gpu.device.queue.submit([encoder.finish()]);
      await expect(gpu.idle()).rejects.toThrow("internal: WebGPU error");
    } finally {
      close();
    }
  });
});
