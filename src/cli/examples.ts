import type { Command } from "commander";

/** Shows commands that can be typed as they are, below the options of a command's help. */
export function addExamples(command: Command, examples: readonly string[]): Command {
  return command.addHelpText("after", `\nExamples:\n${examples.map((example) => `  ${example}`).join("\n")}`);
}
