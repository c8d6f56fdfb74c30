import { beforeAll, describe, it } from "vitest";
import { baselineGpu, PLAIN_KERNELS, plainMatmul } from "../../scripts/bench/baseline.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { useDevice } from "../device.ts";
import { constantMatrix, expectRows, outputMatrix, rowCount, run } from "../kernels/harness.ts";
import { seededNumbers } from "../numbers.ts";
import * as reference from "../reference/matmul.ts";

// The kernels that ours are measured against do the same work: a fast kernel that is wrong would be no measure.

const device = useDevice();

describe.each(PLAIN_KERNELS)("the plain matmul, $name", (kernel) => {
  let gpu: Gpu;
  beforeAll(() => {
    gpu = baselineGpu(device.gpu);
  });

  it.each([
    { m: 8, n: 8, k: 8 },
    { m: 24, n: 40, k: 56 },
    { m: 72, n: 136, k: 72 },
    { m: 136, n: 16, k: 200 },
  ])("$m x $k by $k x $n", async ({ m, n, k }) => {
    const random = seededNumbers(m);
    const [a, b] = [random.normals(m * k), random.normals(k * n)];
    const c = outputMatrix(gpu, rowCount(gpu, m), n);
    // Exactly the rows of the batch: this kernel knows no others.
    const [bits] = await run(
      gpu,
      [plainMatmul(gpu, kernel, constantMatrix(gpu, a, m, k), constantMatrix(gpu, b, k, n), { ...c, rows: m })],
      [c],
    );
    expectRows(bits!, c, reference.matmulNN(a, b, { m, n: k, k: n }));
  });
});
