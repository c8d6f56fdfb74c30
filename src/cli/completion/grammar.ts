import type { Argument, Command, Option } from "commander";
import { SETTING_KEYS } from "../../config/keys.ts";
import { EXPORT_DTYPES, PROMPT_TEMPLATES } from "../../config/names.ts";
import { MODEL_SHAPES } from "../../plan/model-shapes.ts";

/** What a shell has to know of the program: it is drawn from commander's own commands and options. */
export interface GrammarCommand {
  /** The words that name it: none for the program itself, `["data", "inspect"]` for a command of a command. */
  readonly path: readonly string[];
  readonly summary: string;
  readonly options: readonly GrammarOption[];
  readonly commands: readonly GrammarCommand[];
  /** What may stand for its arguments. */
  readonly argument: Completions;
}

export interface GrammarOption {
  /** With its dashes, the long name first. */
  readonly names: readonly string[];
  readonly description: string;
  /** Whether a value must follow, or may. */
  readonly value: "none" | "required" | "optional";
  readonly completions: Completions;
}

/** What may stand somewhere: files and folders, some words, or what nobody can guess. */
export type Completions = "files" | "anything" | readonly string[];

/** Values of options that are not declared as choices. A word that ends in "=" goes on behind it. */
const VALUES: Readonly<Record<string, readonly string[]>> = {
  "--set": SETTING_KEYS.map((key) => `${key}=`),
  "--precision": ["auto", "f32", "f16"],
  "--prompt-template": PROMPT_TEMPLATES,
  "--shape": Object.keys(MODEL_SHAPES),
  "--dtype": EXPORT_DTYPES,
};

/** Placeholders of options and arguments that stand for a path. */
const PATHS = /^[<[](file|folder|folder or id|data|checkpoint|dir|dir\.\.\.)[>\]]$/;

/** A command with those below it. What is hidden from its help is left out. */
export function grammarOf(command: Command, above: readonly string[] = []): GrammarCommand {
  const help = command.createHelp();
  const path = command.parent ? [...above, command.name()] : [];
  const [argument] = command.registeredArguments;
  return {
    path,
    summary: command.summary() || command.description(),
    options: help.visibleOptions(command).map(grammarOption),
    commands: help
      .visibleCommands(command)
      .filter((inner) => inner.name() !== "help")
      .map((inner) => grammarOf(inner, path)),
    argument: argument ? completionsOf(argument, placeholderOf(argument)) : "anything",
  };
}

function grammarOption(option: Option): GrammarOption {
  const { long, short, description, flags, required, optional } = option;
  const placeholder = /[<[].*$/.exec(flags)?.[0] ?? "";
  const known = VALUES[long ?? ""];
  return {
    names: [long, short].filter((name) => name !== undefined && name !== null),
    description,
    value: required ? "required" : optional ? "optional" : "none",
    completions: known ?? completionsOf(option, placeholder),
  };
}

function completionsOf({ argChoices }: Option | Argument, placeholder: string): Completions {
  if (argChoices) return argChoices;
  return PATHS.test(placeholder) ? "files" : "anything";
}

function placeholderOf(argument: Argument): string {
  const name = `${argument.name()}${argument.variadic ? "..." : ""}`;
  return argument.required ? `<${name}>` : `[${name}]`;
}

/** A command, then those below it. */
export function* eachCommand(command: GrammarCommand): Generator<GrammarCommand> {
  yield command;
  for (const inner of command.commands) yield* eachCommand(inner);
}

/** Text in single quotes, as bash and zsh read it. */
export function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** Names of the options that a value must follow. */
export function namesWithValue(command: GrammarCommand): string[] {
  return command.options.filter(({ value }) => value === "required").flatMap(({ names }) => names);
}

/**
 * The lines of a `case` by which bash and zsh walk over the words before the cursor, so that `command` names the one that
 * they belong to. The word after an option that takes a value is passed over.
 */
export function walkCases(program: GrammarCommand): string[] {
  const commands = [...eachCommand(program)];
  return commands.flatMap((command) => {
    const name = command.path.join(" ");
    const values = namesWithValue(command).map((option) => `"${name}|${option}"`);
    return [
      ...command.commands.map((inner) => `"${name}|${inner.path.at(-1)}") command="${inner.path.join(" ")}" ;;`),
      ...(values.length > 0 ? [`${values.join("|")}) skip=1 ;;`] : []),
    ];
  });
}
