import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { ExpectedError } from "../src/errors.ts";
import type { Gpu } from "../src/gpu/gpu.ts";
import { openDevice } from "../src/platform/dawn.ts";
import { baselineGpu, PLAIN_KERNELS, plainMatmul } from "./bench/baseline.ts";
import { type BenchCase, matrix } from "./bench/cases.ts";
import { attentionCases, elementwiseCases } from "./bench/layer-cases.ts";
import { matmulCases } from "./bench/matmul-cases.ts";
import { fastest, medianMs } from "./bench/measure.ts";
import { headCases, mergeCase, optimizerCases } from "./bench/other-cases.ts";
import { watchOthers } from "./bench/other-load.ts";
import { measurePasses, openExample } from "./bench/passes.ts";
import { createReport, formatReport, type KernelResult } from "./bench/report.ts";
import { type LayerShape, modelShape, wideShape } from "./bench/shapes.ts";

// How fast each kernel, a training step and a scoring pass are on a device: see docs/performance.md.

const USAGE = "npm run bench -- [--device auto|software|NAME] [--safe] [--json FILE] [--only KERNEL]";

function casesOf(shape: LayerShape, which: "all" | "layer"): BenchCase[] {
  const { hidden, intermediate, rank } = shape;
  return [
    ...matmulCases(shape, which),
    ...attentionCases(shape),
    ...elementwiseCases(shape),
    ...headCases(shape),
    ...optimizerCases(intermediate, rank),
    mergeCase(intermediate, hidden, rank),
  ];
}

async function measureCase(gpu: Gpu, plainGpu: Gpu, benchCase: BenchCase): Promise<KernelResult> {
  const { kernel, shape, work } = benchCase;
  const ms = await withBuffers(
    gpu,
    () => benchCase.commands(gpu),
    (commands) => medianMs(gpu, commands),
  );
  const plain = benchCase.plain ? await measurePlain(plainGpu, benchCase.plain) : null;
  return { kernel, shape, ms, work, plain };
}

async function measurePlain(gpu: Gpu, { m, n, k }: NonNullable<BenchCase["plain"]>): Promise<KernelResult["plain"]> {
  const candidates = () => {
    const [a, b, c] = [matrix(gpu, m, k), matrix(gpu, k, n), matrix(gpu, m, n)];
    return PLAIN_KERNELS.map((kernel) => [plainMatmul(gpu, kernel, a, b, c)]);
  };
  return withBuffers(gpu, candidates, async (commands) => {
    const { index, ms } = await fastest(gpu, commands);
    return { kernel: PLAIN_KERNELS[index]!.name, ms };
  });
}

/** Releases what `make` allocates once `use` is done. */
async function withBuffers<T, R>(gpu: Gpu, make: () => T, use: (made: T) => Promise<R>): Promise<R> {
  const { value, buffers } = gpu.collect(make);
  try {
    return await use(value);
  } finally {
    for (const buffer of buffers) gpu.release(buffer);
  }
}

async function main(): Promise<void> {
  const { values: options } = parseArgs({
    options: {
      device: { type: "string", default: "auto" },
      safe: { type: "boolean" },
      json: { type: "string" },
      only: { type: "string" }, // kernels whose name contains this, and no pass
    },
  });
  const profile = options.safe ? "safe" : "fast";
  const example = await openExample();
  const opened = await openDevice({ device: options.device, profile });
  try {
    const { gpu } = opened;
    const progress = (what: string) => process.stderr.write(`${what}\n`);
    progress(`measuring on ${opened.adapter.name}; let nothing else run meanwhile`);
    const otherLoad = watchOthers();
    const passes = options.only === undefined ? await measurePasses(gpu, example) : [];
    const twinTiny = modelShape("twin-tiny", example.folder.config, example.config.lora.r, example.pairs);
    const plainGpu = baselineGpu(gpu);
    const kernels = [];
    for (const [shape, which] of [
      [twinTiny, "all"],
      [wideShape(), "layer"],
    ] as const) {
      for (const benchCase of casesOf(shape, which)) {
        if (!benchCase.kernel.includes(options.only ?? "")) continue;
        progress(`${benchCase.kernel}, ${benchCase.shape}`);
        kernels.push({ model: shape.name, ...(await measureCase(gpu, plainGpu, benchCase)) });
      }
    }
    const report = createReport(opened.adapter, profile, { kernels, passes, otherLoad: otherLoad() });
    process.stdout.write(formatReport(report));
    if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
  } finally {
    opened.close();
    await example.folder.close();
  }
}

try {
  await main();
} catch (error) {
  const isUsage = error instanceof TypeError && "code" in error && String(error.code).startsWith("ERR_PARSE_ARGS");
  if (!isUsage && !(error instanceof ExpectedError)) throw error;
  process.stderr.write(`bench: ${(error as Error).message}\n${isUsage ? `usage: ${USAGE}\n` : ""}`);
  process.exitCode = isUsage ? 2 : (error as ExpectedError).exitCode;
}
