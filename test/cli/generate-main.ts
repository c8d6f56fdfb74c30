import { Command, CommanderError } from "commander";
import { addGenerateCommand } from "../../src/cli/generate.ts";

// The generate command as a process of its own. With PRETEND_TERMINAL standard output takes itself for a terminal.

if (process.env.PRETEND_TERMINAL !== undefined) process.stdout.isTTY = true;
const program = new Command("dpo-train").exitOverride();
addGenerateCommand(program);
try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode === 0 ? 0 : 2;
}
