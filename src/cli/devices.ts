import type { Command } from "commander";
import { DeviceError } from "../errors.ts";
import type { AdapterDescription } from "../platform/adapter.ts";
import { listAdapters } from "../platform/dawn.ts";
import { createTerminal } from "../terminal.ts";
import { addExamples } from "./examples.ts";
import { runCommand } from "./run-command.ts";

/** Limits that decide what fits. */
const SHOWN_LIMITS = [
  ["maxBufferSize", "largest buffer"],
  ["maxStorageBufferBindingSize", "largest binding"],
  ["maxComputeWorkgroupStorageSize", "workgroup memory"],
] as const;

/** `dpo-train devices`: the adapters that `--device` can name, with their limits and features. */
export function addDevicesCommand(program: Command): void {
  const command = program
    .command("devices")
    .summary("list the GPUs that --device can name")
    .description("list the adapters that --device can name, their limits and features")
    .option("--json", "print everything as JSON");
  addExamples(command, ["dpo-train devices", "dpo-train devices --json"]).action((options: { json?: boolean }) =>
    runCommand({ terminal: createTerminal() }, async () => {
      const adapters = await listAdapters();
      if (adapters.length === 0) {
        throw new DeviceError(
          "no adapter found: install your GPU's Vulkan driver, or on Linux x64 the npm package @sparticuz/chromium, which carries SwiftShader",
        );
      }
      const text = options.json ? JSON.stringify(adapters, null, 2) : adapters.map(describe).join("\n\n");
      process.stdout.write(`${text}\n`);
    }),
  );
}

function describe(adapter: AdapterDescription): string {
  const { name, software, limits, features, f16Matrix } = adapter;
  const lines = [
    `${name}${software ? " [runs on the CPU]" : ""}`,
    `  --precision f16: ${f16Matrix ? `yes, on ${sizes(f16Matrix)} matrices` : "no"}`,
    ...SHOWN_LIMITS.map(([limit, words]) => `  ${words}: ${formatBytes(limits[limit] ?? 0)}`),
    `  invocations per workgroup: ${limits.maxComputeInvocationsPerWorkgroup}`,
    `  invocations per subgroup: ${subgroupSizes(adapter)}`,
    `  subgroup matrices (M x N x K): ${matrices(adapter) || "none"}`,
    `  features: ${features.join(", ")}`,
  ];
  return lines.join("\n");
}

function subgroupSizes({ subgroupMinSize, subgroupMaxSize }: AdapterDescription): string {
  if (subgroupMaxSize === 0) return "unknown";
  return subgroupMinSize === subgroupMaxSize ? `${subgroupMaxSize}` : `${subgroupMinSize} to ${subgroupMaxSize}`;
}

function matrices({ subgroupMatrixConfigs }: AdapterDescription): string {
  return subgroupMatrixConfigs
    .map((config) => `${sizes(config)} ${config.componentType} to ${config.resultComponentType}`)
    .join(", ");
}

function sizes({ M, N, K }: { M: number; N: number; K: number }): string {
  return `${M}x${N}x${K}`;
}

function formatBytes(bytes: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number(value.toFixed(2))} ${units[unit]}`;
}
