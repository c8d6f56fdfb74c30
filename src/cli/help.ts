import { type Command, Help } from "commander";

/** Options that look for the cause of something odd: in the program's own help they share a line. */
const DIAGNOSES = ["--watch", "--safe", "--profile"];
const DIAGNOSES_DESCRIPTION = "find lost work, a wrong access, a slow kernel";

/** The program's own help has room for a screen: what works as everywhere (--help, --version, help) is not listed. */
export function formatHelp(command: Command, helper: Help): string {
  if (command.parent) return Help.prototype.formatHelp.call(helper, command, helper);
  const options = helper
    .visibleOptions(command)
    .filter(({ long }) => !["--version", "--help", ...DIAGNOSES].includes(long!))
    .map((option) => [helper.optionTerm(option), helper.optionDescription(option)] as const);
  const commands = helper
    .visibleCommands(command)
    .filter((listed) => listed.name() !== "help")
    .map((listed) => [listed.name(), helper.subcommandDescription(listed)] as const);
  options.splice(-2, 0, [DIAGNOSES.join(" "), DIAGNOSES_DESCRIPTION]);
  const width = Math.max(...[...options, ...commands].map(([term]) => term.length));
  const rows = (items: readonly (readonly [string, string])[]) =>
    items.map(([term, description]) => `  ${term.padEnd(width)}  ${description}`);
  return [
    `Usage: ${command.name()} --config FILE [options]   train a Llama model on preferences`,
    ...rows(options),
    `       ${command.name()} COMMAND [--help]`,
    ...rows(commands),
    "",
  ].join("\n");
}
