import { type Completions, eachCommand, type GrammarCommand, shellQuoted, walkCases } from "./grammar.ts";

/** A completion script for bash from 3.2 on. */
export function bashCompletion(program: GrammarCommand): string {
  return `# Completion of dpo-train for bash. In ~/.bashrc:
#   eval "$(dpo-train completion bash)"

_dpo_train() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" command="" skip=0 i
  for ((i = 1; i < COMP_CWORD; i++)); do
    [[ \${COMP_WORDS[i]} == "=" ]] && { skip=1; continue; }
    if ((skip)); then skip=0; continue; fi
    case "$command|\${COMP_WORDS[i]}" in
${lines(walkCases(program), 6)}
    esac
  done
  # Bash takes the "=" of --option=value and key=value for a word of its own.
  [[ $previous == "=" ]] && previous="\${COMP_WORDS[COMP_CWORD-2]}"
  [[ $current == "=" ]] && { current=""; skip=1; }
  case "$command|$previous" in
${lines(valueCases(program), 4)}
  esac
  ((skip)) && return # The value of something else, such as of a setting.
  case "$command" in
${lines(wordCases(program), 4)}
  esac
}

_dpo_train_words() {
  COMPREPLY=($(compgen -W "$1" -- "$2"))
  # What ends in "=" goes on behind it.
  [[ \${#COMPREPLY[@]} -eq 1 && \${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
  return 0
}

_dpo_train_files() {
  local IFS=$'\\n'
  compopt -o filenames 2>/dev/null
  COMPREPLY=($(compgen -f -- "$1"))
}

complete -F _dpo_train dpo-train
`;
}

function lines(all: readonly string[], indent: number): string {
  return all.map((line) => " ".repeat(indent) + line).join("\n");
}

/** What may follow an option. */
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

/** What may stand where no value is asked for. */
function wordCases(program: GrammarCommand): string[] {
  return [...eachCommand(program)].map(({ path, options, commands, argument }) => {
    const names = options.flatMap((option) => option.names.slice(0, 1)).join(" ");
    const inner = commands.map((command) => command.path.at(-1)!);
    const optional = options.some(({ value, completions }) => value === "optional" && completions === "files");
    const others = inner.length > 0 ? offer(inner) : offer(argument === "anything" && optional ? "files" : argument);
    return `${shellQuoted(path.join(" "))}) if [[ $current == -* ]]; then ${offer([names])}else ${others || ":; "}fi ;;`;
  });
}

function offer(completions: Completions): string {
  if (completions === "anything") return "";
  if (completions === "files") return '_dpo_train_files "$current"; ';
  return `_dpo_train_words ${shellQuoted(completions.join(" "))} "$current"; `;
}
