import type { Command } from "commander";
import { DeviceError } from "../errors.ts";
import { type AdapterDescription, listAdapters } from "../platform/dawn.ts";
import { createTerminal } from "../terminal.ts";
import { runCommand } from "./run-command.ts";

/** Limits that decide what fits. */
const SHOWN_LIMITS = [
  ["maxBufferSize", "largest buffer"],
  ["maxStorageBufferBindingSize", "largest binding"],
  ["maxComputeWorkgroupStorageSize", "workgroup memory"],
] as const;

/** `dpo-train devices`: the adapters that `--device` can name, with their limits and features. */
export function addDevicesCommand(program: Command): void {
  program
    .command("devices")
    .summary("list the GPUs that --device can name")
    .description("list the adapters that --device can name, their limits and features")
    .option("--json", "print everything as JSON")
    .action((options: { json?: boolean }) =>
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

function describe({ name, software, limits, features }: AdapterDescription): string {
  const lines = [
    `${name}${software ? " [runs on the CPU]" : ""}`,
    ...SHOWN_LIMITS.map(([limit, words]) => `  ${words}: ${formatBytes(limits[limit] ?? 0)}`),
    `  invocations per workgroup: ${limits.maxComputeInvocationsPerWorkgroup}`,
    `  features: ${features.join(", ")}`,
  ];
  return lines.join("\n");
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
