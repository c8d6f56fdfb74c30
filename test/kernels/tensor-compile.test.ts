import { afterAll, beforeAll, expect, it } from "vitest";
import { create, globals } from "webgpu";
import { wholeBuffer } from "../../src/gpu/buffer.ts";
import { RowCount } from "../../src/gpu/count.ts";
import { Gpu } from "../../src/gpu/gpu.ts";
import { attentionBackward, attentionForward } from "../../src/ops/attention.ts";
import { candidateShapes, type ProductSizes } from "../../src/ops/fragment-shapes.ts";
import { createHalfRows, packedRows } from "../../src/ops/half-rows.ts";
import { exponentialRows, headForward } from "../../src/ops/head.ts";
import { createMatrix, createWeight } from "../../src/ops/matrix.ts";
import { PeakSlots } from "../../src/ops/peak.ts";
import { tensorProduct } from "../../src/ops/tensor.ts";
import { ATTENTION_PEAKS, createTensorAttention } from "../../src/ops/tensor-attention.ts";
import { createGradientWorkspace, tensorGradient } from "../../src/ops/tensor-gradient.ts";
import { readKernel } from "../../src/platform/kernels.ts";

// Every kernel on subgroup matrices, in every shape that an NVIDIA GPU may be given, through Dawn's whole checks of WGSL.
// Its null backend knows f16 and subgroup matrices of any size, and runs nothing.

const NVIDIA = {
  matrixM: 16,
  matrixN: 16,
  matrixK: 16,
  subgroupSize: 32,
  workgroupBytes: 48 * 1024,
  workgroupInvocations: 1024,
};

/** Reachable while its device is in use: collecting it would take the device along. */
let instance: GPU | undefined;
let gpu: Gpu;

beforeAll(async () => {
  Object.assign(globalThis, globals);
  instance = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
  const adapter = await instance.requestAdapter();
  const requiredFeatures = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"] as GPUFeatureName[];
  const device = await adapter!.requestDevice({ requiredFeatures });
  // Modules are compiled, and nothing else is made: the null backend has workgroups of 16 KiB, and binds 8 buffers.
  const notMade: Record<string, () => object> = {
    createComputePipelineAsync: () => Promise.resolve({}),
    createPipelineLayout: () => ({}),
    createBindGroupLayout: () => ({}),
    createBindGroup: () => ({}),
  };
  const modulesOnly = new Proxy(device, {
    get: (target, key) => {
      const value: unknown = notMade[String(key)] ?? Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  gpu = new Gpu(modulesOnly, { kernelSource: readKernel, subgroupSize: 32, fragments: NVIDIA });
});

afterAll(() => {
  gpu.destroy();
  instance = undefined;
});

const [ROWS, WIDE] = [256, 512];

/** Asks for the pipelines of a product in each of its shapes, and says how many these are. */
function compileAll(on: Gpu, sizes: ProductSizes): number {
  const { kind, m, n, k } = sizes;
  const count = new RowCount(on, "rows", ROWS);
  const half = createHalfRows(on, "half", ROWS, WIDE);
  const y = createMatrix(on, "y", m, n);
  const shapes = candidateShapes(NVIDIA, sizes);
  for (const shape of shapes) {
    if (kind === "tn") {
      const workspace = createGradientWorkspace(on, ROWS, WIDE, Math.min(m, n), new PeakSlots(on, 1));
      const narrow = createMatrix(on, "narrow", ROWS, Math.min(m, n));
      tensorGradient(on, {
        count,
        wide: packedRows(half, ROWS, WIDE),
        narrow,
        narrowIsLeft: m < n,
        y,
        workspace,
        shape,
      });
      continue;
    }
    for (const format of ["f16", "f32"] as const) {
      tensorProduct(on, {
        count,
        x: packedRows(half, ROWS, k),
        firstXColumn: 0,
        k,
        n,
        w: createMatrix(on, "w", n, k).range,
        format,
        transposed: kind === "nt",
        lora: null,
        addition: { kind: "none" },
        y,
        firstYColumn: 0,
        scale: 1,
        shape,
      });
    }
  }
  return shapes.length;
}

it.each([
  { kind: "nt", m: ROWS, n: WIDE, k: WIDE },
  { kind: "nn", m: ROWS, n: WIDE, k: WIDE },
  ...[32, 64].flatMap((rank) => [
    { kind: "nt", m: ROWS, n: rank, k: WIDE } as const,
    { kind: "nn", m: ROWS, n: rank, k: WIDE } as const,
    { kind: "tn", m: WIDE, n: rank, k: ROWS } as const,
    { kind: "tn", m: rank, n: WIDE, k: ROWS } as const,
  ]),
] as const)("$kind, $m x $n x $k", async (sizes) => {
  expect(compileAll(gpu, sizes)).toBeGreaterThan(2);
  await gpu.pipelines.ready();
});

it.each([40, 64, 128])("attention, heads of %i", async (headDim) => {
  const before = gpu.pipelines.count;
  const shape = { heads: 4, keyValueHeads: 1, headDim };
  const peaks = new PeakSlots(gpu, ATTENTION_PEAKS);
  const tensor = createTensorAttention(gpu, { shape, maxRows: ROWS, peaks });
  expect(tensor).not.toBeNull();
  const words = (perRow: number) => wholeBuffer(gpu.buffer("words", ROWS * perRow * 4));
  const [queries, keys] = [createMatrix(gpu, "q", ROWS, 4 * headDim), createMatrix(gpu, "k", ROWS, headDim)];
  const forward = {
    count: new RowCount(gpu, "rows", ROWS),
    shape,
    visible: words(4),
    q: queries,
    k: keys,
    v: keys,
    o: queries,
    stats: words(8),
    tensor,
  };
  const backward = { ...forward, queryEnd: words(1), dO: queries, dQ: queries, dK: keys, dV: keys };
  const commands = [...attentionForward(gpu, forward), ...attentionBackward(gpu, backward)];
  expect(commands.flatMap((command) => (command.kind === "dispatch" ? [command.label] : []))).toEqual([
    "attention/tensor_forward",
    "attention/delta",
    ...["elementwise/peak", "elementwise/peak"],
    "attention/tensor_backward_query",
    "attention/tensor_backward_key",
  ]);
  expect(gpu.pipelines.count).toBeGreaterThanOrEqual(before + 4);
  await gpu.pipelines.ready();
});

it("the head, with exponentials in f16", async () => {
  const [chunk, width] = [512, 256];
  const words = (perRow: number) => wholeBuffer(gpu.buffer("words", ROWS * perRow * 4));
  const commands = headForward(gpu, {
    count: new RowCount(gpu, "rows", ROWS),
    hidden: createMatrix(gpu, "hidden", ROWS, width),
    w: createWeight(gpu, "w", "f16", chunk, width),
    targets: words(2),
    logits: createMatrix(gpu, "logits", ROWS, chunk),
    state: words(4),
    best: words(1),
    targetLogits: words(2),
    scale: words(1),
    sums: createMatrix(gpu, "sums", ROWS, width),
    half: {
      hidden: createHalfRows(gpu, "half", ROWS, width),
      exponentials: exponentialRows(gpu, createHalfRows(gpu, "half", ROWS, chunk), ROWS),
    },
  });
  expect(commands.flatMap((command) => (command.kind === "dispatch" ? [command.label] : []))).toEqual([
    "elementwise/pack_rows",
    "matmul/tensor",
    "head/chunk",
    "matmul/tensor",
  ]);
  await gpu.pipelines.ready();
});

it("tells a kernel that does not compile", async () => {
  const broken = new Gpu(gpu.device, {
    kernelSource: (name) => readKernel(name).replace("multiply(&sums, subgroup_row,", "multiply(&sums, 1.5,"),
    subgroupSize: 32,
    fragments: NVIDIA,
  });
  compileAll(broken, { kind: "nt", m: ROWS, n: WIDE, k: WIDE });
  await expect(broken.pipelines.ready()).rejects.toThrow("kernels/matmul/tensor.wgsl");
});
