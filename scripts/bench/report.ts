import { availableParallelism } from "node:os";
import type { AdapterDescription } from "../../src/platform/adapter.ts";
import type { DeviceProfile } from "../../src/platform/toggles.ts";
import type { Work } from "./cases.ts";
import type { PassResult } from "./passes.ts";

export interface KernelResult {
  readonly kernel: string;
  readonly shape: string;
  readonly ms: number;
  readonly work: Work | null;
  /** The same product by the fastest of the plain kernels. */
  readonly plain: { readonly kernel: string; readonly ms: number } | null;
}

export interface BenchReport {
  readonly adapter: Pick<AdapterDescription, "name" | "vendor" | "architecture">;
  readonly profile: DeviceProfile;
  readonly node: string;
  readonly logicalProcessors: number;
  /** Share of the processors' time that other processes took meanwhile, 0 to 1. Above a few percent, measure again. */
  readonly otherLoad: number;
  readonly kernels: readonly (KernelResult & { readonly model: string })[];
  readonly passes: readonly PassResult[];
}

export function createReport(
  { name, vendor, architecture }: AdapterDescription,
  profile: DeviceProfile,
  results: Pick<BenchReport, "kernels" | "passes" | "otherLoad">,
): BenchReport {
  return {
    adapter: { name, vendor, architecture },
    profile,
    node: process.version,
    logicalProcessors: availableParallelism(),
    ...results,
  };
}

const PASS_HEADER = [
  "| pass | pairs | packed tokens | time | pairs/s | packed tokens/s | tokens/s, prompts counted twice |",
  "|---|--:|--:|--:|--:|--:|--:|",
];

/** The report as Markdown. Nothing in it depends on the clock but the times themselves. */
export function formatReport(report: BenchReport): string {
  const { adapter, profile, node, logicalProcessors, otherLoad, kernels, passes } = report;
  const models = [...new Set(kernels.map(({ model }) => model))];
  return [
    `${adapter.name}, profile ${profile}, Node.js ${node}, ${logicalProcessors} logical processors`,
    `Other processes took ${(100 * otherLoad).toFixed(0)}% of the processors' time meanwhile.`,
    ...(passes.length === 0 ? [] : ["", ...PASS_HEADER, ...passes.map(passRow)]),
    ...models.flatMap((model) => [
      "",
      `| kernel, ${model} | shape | time | rate | best plain matmul | ours / plain |`,
      "|---|---|--:|--:|--:|--:|",
      ...kernels.filter((result) => result.model === model).map(kernelRow),
    ]),
    "",
  ].join("\n");
}

function passRow({ pass, pairs, packedTokens, unpackedTokens, ms }: PassResult): string {
  const perSecond = (count: number) => digits((1000 * count) / ms);
  return row([
    pass,
    String(pairs),
    String(packedTokens),
    time(ms),
    perSecond(pairs),
    perSecond(packedTokens),
    perSecond(unpackedTokens),
  ]);
}

function kernelRow({ kernel, shape, ms, work, plain }: KernelResult): string {
  return row([
    `\`${kernel}\``,
    shape,
    time(ms),
    rate(work, ms),
    plain ? `${rate(work, plain.ms)} (${plain.kernel})` : "",
    plain ? digits(plain.ms / ms) : "",
  ]);
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(" | ")} |`;
}

function time(ms: number): string {
  return ms < 1 ? `${digits(ms * 1000)} µs` : `${digits(ms)} ms`;
}

function rate(work: Work | null, ms: number): string {
  if (work === null) return "";
  return "flops" in work ? `${digits(work.flops / ms / 1e6)} GFLOP/s` : `${digits(work.bytes / ms / 1e6)} GB/s`;
}

/** Three significant digits: more is noise. */
function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : Number(value.toPrecision(3)).toString();
}
