import { type Completions, eachCommand, type GrammarCommand, shellQuoted, walkCases } from "./grammar.ts";

/** A completion script for zsh. */
export function zshCompletion(program: GrammarCommand): string {
  return `# Completion of dpo-train for zsh. In ~/.zshrc, behind compinit:
#   eval "$(dpo-train completion zsh)"

_dpo_train() {
  local command="" previous="\${words[CURRENT-1]}" skip=0 word
  local -a entries
  # The value of --option=value is completed like a word of its own.
  if [[ \${words[CURRENT]} == --*=* ]]; then
    previous="\${\${words[CURRENT]}%%=*}"
    compset -P 1 '*='
  fi
  for word in "\${(@)words[2,CURRENT-1]}"; do
    if ((skip)); then skip=0; continue; fi
    case "$command|$word" in
${lines(walkCases(program), 6)}
    esac
  done
  case "$command|$previous" in
${lines(valueCases(program), 4)}
  esac
  case "$command" in
${lines(wordCases(program), 4)}
  esac
}

compdef _dpo_train dpo-train
`;
}

function lines(all: readonly string[], indent: number): string {
  return all.map((line) => " ".repeat(indent) + line).join("\n");
}

function valueCases(program: GrammarCommand): string[] {
  return [...eachCommand(program)].flatMap(({ path, options }) =>
    options
      .filter(({ value }) => value === "required")
      .map(({ names, completions }) => {
        const pattern = names.map((name) => `"${path.join(" ")}|${name}"`).join("|");
        return `${pattern}) ${offer(completions)}return ;;`;
      }),
  );
}

function wordCases(program: GrammarCommand): string[] {
  return [...eachCommand(program)].map(({ path, options, commands, argument }) => {
    const names = options.map(({ names: [name], description }) => [name!, description] as const);
    const inner = commands.map((command) => [command.path.at(-1)!, command.summary] as const);
    const optional = options.some(({ value, completions }) => value === "optional" && completions === "files");
    const others =
      inner.length > 0 ? describe("command", inner) : offer(argument === "anything" && optional ? "files" : argument);
    return `${shellQuoted(path.join(" "))}) if [[ \${words[CURRENT]} == -* ]]; then ${describe("option", names)}else ${others || ":; "}fi ;;`;
  });
}

function describe(what: string, entries: readonly (readonly [name: string, description: string])[]): string {
  const all = entries.map(([name, description]) => shellQuoted(`${name}:${description.replaceAll(":", "\\:")}`));
  return `entries=(${all.join(" ")}); _describe ${what} entries; `;
}

function offer(completions: Completions): string {
  if (completions === "anything") return "";
  if (completions === "files") return "_files; ";
  const [open, closed] = [
    completions.filter((word) => word.endsWith("=")),
    completions.filter((word) => !word.endsWith("=")),
  ];
  const add = (words: readonly string[], flag: string) =>
    words.length > 0 ? `compadd ${flag}-- ${words.join(" ")}; ` : "";
  return add(open, "-S '' ") + add(closed, "");
}
