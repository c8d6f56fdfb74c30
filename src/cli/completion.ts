import { Argument, type Command } from "commander";
import { bashCompletion } from "./completion/bash.ts";
import { fishCompletion } from "./completion/fish.ts";
import { type GrammarCommand, grammarOf } from "./completion/grammar.ts";
import { zshCompletion } from "./completion/zsh.ts";

const SCRIPTS = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion } satisfies Record<
  string,
  (program: GrammarCommand) => string
>;

/** `dpo-train completion bash`: a script that a shell completes commands and options by. */
export function addCompletionCommand(program: Command): void {
  program
    .command("completion", { hidden: true }) // Its name is in the README; the program's help has room for a screen.
    .description("print a script that completes commands, options and settings in a shell")
    .addArgument(new Argument("<shell>", "which shell").choices(Object.keys(SCRIPTS)))
    .addHelpText(
      "after",
      '\nExamples:\n  eval "$(dpo-train completion bash)"    # in ~/.bashrc\n' +
        '  eval "$(dpo-train completion zsh)"     # in ~/.zshrc, behind compinit\n' +
        "  dpo-train completion fish | source     # in ~/.config/fish/config.fish",
    )
    .action((shell: keyof typeof SCRIPTS) => {
      process.stdout.write(SCRIPTS[shell](grammarOf(program)));
    });
}
