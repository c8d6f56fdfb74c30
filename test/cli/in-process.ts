import { Command } from "commander";
import { vi } from "vitest";
import { addDataCommand } from "../../src/cli/data.ts";

/** `dpo-train data ARGS` in this process: quicker than one of its own, where nothing depends on that. */
export async function dataCommand(args: readonly string[]): Promise<{ code: unknown; stderr: string }> {
  let stderr = "";
  const write = vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    stderr += String(text);
    return true;
  });
  const stdout = vi.spyOn(process.stdout, "write").mockImplementation(() => true);
  const before = process.exitCode;
  try {
    const program = new Command("dpo-train").exitOverride();
    addDataCommand(program);
    await program.parseAsync(["data", ...args], { from: "user" });
    return { code: process.exitCode, stderr };
  } finally {
    process.exitCode = before;
    write.mockRestore();
    stdout.mockRestore();
  }
}
