import { expect, it } from "vitest";
import { encode } from "../../src/gpu/commands.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { rmsNormForward } from "../../src/ops/norm.ts";
import { useDevice } from "../device.ts";
import { inputMatrix, inputVector, outputMatrix, outputWords, rowCount } from "../kernels/harness.ts";
import { seededNumbers } from "../numbers.ts";

const device = useDevice();

async function normCommands(gpu: Gpu) {
  const count = rowCount(gpu, 5);
  const y = outputMatrix(gpu, count, 16);
  const commands = rmsNormForward(gpu, {
    count,
    x: inputMatrix(gpu, count, seededNumbers(1).normals(5 * 16), 16),
    w: inputVector(gpu, seededNumbers(2).normals(16)),
    eps: 1e-5,
    y,
    rstd: outputWords(gpu, count, 1).range,
  });
  await gpu.pipelines.ready();
  const submit = (repetitions: number) => {
    const encoder = gpu.device.createCommandEncoder();
    encode(gpu, encoder, Array.from({ length: repetitions }, () => commands).flat());
    gpu.device.queue.submit([encoder.finish()]);
  };
  return { submit, y };
}

it("times each dispatch while it is active, in order, and changes no result", async (context) => {
  const { gpu } = device;
  const { profiler } = gpu;
  if (!profiler) return context.skip("the device has no timestamps");
  const { submit, y } = await normCommands(gpu);
  submit(1);
  const [plain] = await gpu.read(y.range);
  expect(await profiler.collect()).toEqual([]);

  profiler.isActive = true;
  submit(3);
  profiler.isActive = false;
  submit(1);

  const [timed] = await gpu.read(y.range);
  expect(new Uint32Array(timed!)).toEqual(new Uint32Array(plain!));
  const dispatches = await profiler.collect();
  expect(dispatches.map(({ label }) => label)).toEqual(["norm/rms_forward", "norm/rms_forward", "norm/rms_forward"]);
  expect(dispatches[0]!.work).toEqual({ flops: 0, bytes: 5 * 2 * 16 * 4 });
  for (const [i, { startNs, endNs }] of dispatches.entries()) {
    expect(endNs).toBeGreaterThan(startNs);
    expect(startNs).toBeGreaterThanOrEqual(i === 0 ? 0 : dispatches[i - 1]!.endNs);
  }
  expect(await profiler.collect()).toEqual([]);
});

it("takes more dispatches than a query set holds, and gives its buffers back", async (context) => {
  const { gpu } = device;
  const { profiler } = gpu;
  if (!profiler) return context.skip("the device has no timestamps");
  const { submit } = await normCommands(gpu);
  profiler.isActive = true;
  submit(2050);
  profiler.isActive = false;
  expect((await profiler.collect()).length).toBe(2050);
  const { liveBytes } = gpu.memory;

  profiler.isActive = true;
  submit(2050);
  profiler.isActive = false;
  expect((await profiler.collect()).length).toBe(2050);
  expect(gpu.memory.liveBytes).toBe(liveBytes);
});
