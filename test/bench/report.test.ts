import { expect, it } from "vitest";
import { median } from "../../scripts/bench/measure.ts";
import { type BenchReport, formatReport } from "../../scripts/bench/report.ts";

const report: BenchReport = {
  adapter: { name: "Card (driver 1.2)", vendor: "maker", architecture: "chip" },
  profile: "fast",
  node: "v20.19.0",
  logicalProcessors: 2,
  otherLoad: 0.034,
  passes: [{ pass: "training step", pairs: 16, packedTokens: 1200, unpackedTokens: 1800, ms: 4000 }],
  kernels: [
    {
      model: "small",
      kernel: "matmul/nt",
      shape: "10×20 · 20×30",
      ms: 2,
      work: { flops: 5_000_000 },
      plain: { kernel: "8x8", ms: 3 },
    },
    { model: "small", kernel: "norm/rms_forward", shape: "10×20", ms: 0.0123456, work: { bytes: 61_728 }, plain: null },
    { model: "wide", kernel: "optimizer/clip", shape: "one", ms: 0.5, work: null, plain: null },
  ],
};

it("prints times and rates, three digits of them, by model", () => {
  expect(formatReport(report)).toBe(`Card (driver 1.2), profile fast, Node.js v20.19.0, 2 logical processors
Other processes took 3% of the processors' time meanwhile.

| pass | pairs | packed tokens | time | pairs/s | packed tokens/s | tokens/s, prompts counted twice |
|---|--:|--:|--:|--:|--:|--:|
| training step | 16 | 1200 | 4000 ms | 4 | 300 | 450 |

| kernel, small | shape | time | rate | best plain matmul | ours / plain |
|---|---|--:|--:|--:|--:|
| \`matmul/nt\` | 10×20 · 20×30 | 2 ms | 2.5 GFLOP/s | 1.67 GFLOP/s (8x8) | 1.5 |
| \`norm/rms_forward\` | 10×20 | 12.3 µs | 5 GB/s |  |  |

| kernel, wide | shape | time | rate | best plain matmul | ours / plain |
|---|---|--:|--:|--:|--:|
| \`optimizer/clip\` | one | 500 µs |  |  |  |
`);
});

it("leaves out what was not measured", () => {
  expect(formatReport({ ...report, passes: [], kernels: report.kernels.slice(2) })).not.toContain("pass |");
});

it("takes the middle", () => {
  expect(median([5, 1, 3])).toBe(3);
  expect(median([4, 1, 3, 2])).toBe(2.5);
});
