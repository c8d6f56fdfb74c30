import { eachCommand, type GrammarCommand, type GrammarOption } from "./grammar.ts";

/** A completion script for fish from 3.0 on. */
export function fishCompletion(program: GrammarCommand): string {
  const commands = [...eachCommand(program)];
  return `# Completion of dpo-train for fish. In ~/.config/fish/config.fish:
#   dpo-train completion fish | source

complete -c dpo-train -f
${commands.flatMap(linesOf).join("\n")}
`;
}

function linesOf({ path, options, commands, argument }: GrammarCommand): string[] {
  const inner = commands.map((command) => command.path.at(-1)!);
  const seen = path.map((name) => `__fish_seen_subcommand_from ${name}`);
  const unseen = inner.length > 0 ? [`not __fish_seen_subcommand_from ${inner.join(" ")}`] : [];
  const line = (condition: readonly string[], rest: string) =>
    `complete -c dpo-train -n ${quoted(condition.join("; and ") || "true")} ${rest}`;
  return [
    ...commands.map((command) => line([...seen, ...unseen], `-a ${command.path.at(-1)} -d ${quoted(command.summary)}`)),
    ...options.map((option) => line([...seen, ...unseen], optionText(option))),
    ...(argument === "files" ? [line([...seen, ...unseen], "-F")] : []),
  ];
}

function optionText({ names, description, value, completions }: GrammarOption): string {
  const flags = names.map((name) => (name.startsWith("--") ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`)).join(" ");
  const words = typeof completions === "string" ? "" : ` -a ${quoted(completions.join(" "))}`;
  const kind = value === "none" ? "" : value === "optional" || completions === "files" ? " -r -F" : " -x";
  return `${flags}${value === "optional" ? "" : kind}${words} -d ${quoted(description)}`;
}

function quoted(text: string): string {
  return `'${text.replace(/[\\']/g, "\\$&")}'`;
}
