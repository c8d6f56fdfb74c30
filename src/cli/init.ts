import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { commentedConfig } from "../config/commented.ts";
import { isSection, SETTING_KEYS, type SettingKey } from "../config/keys.ts";
import { parseConfig } from "../config/load.ts";
import { loadTokenizer } from "../data/tokenizer.ts";
import { InputError } from "../errors.ts";
import { createTerminal, type Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { fetching } from "../train/begin-run.ts";
import { lookAtData } from "../train/suggest/data-facts.ts";
import { describedModelFolder, modelFacts } from "../train/suggest/model-facts.ts";
import { suggestSettings } from "../train/suggest/settings.ts";
import { readLlamaConfig } from "../weights/model-folder.ts";
import { writeNewFile } from "../weights/new-file.ts";
import { collect } from "./option-values.ts";
import { runCommand } from "./run-command.ts";

export interface InitOptions {
  readonly model: string;
  readonly dataset: string;
  readonly out?: string;
  readonly set?: readonly string[];
}

/** `dpo-train init`: writes a config that suits a model and a data set, for its user to read and change. */
export function addInitCommand(program: Command): void {
  program
    .command("init")
    .summary("write a commented config for a model and a data set")
    .description("look at a model and a data set, without a GPU, and write a commented config for them")
    .requiredOption("--model <folder or id>", "model folder, or Hub id as owner/name or owner/name@revision")
    .requiredOption("--dataset <data>", "a file, a folder, or a Hub id as owner/name or owner/name@revision")
    .option("--out <file>", "file to write, which must not be there yet; without it, standard output")
    .option("--set <key=value>", "a setting to write as it is; may be repeated", collect)
    .addHelpText(
      "after",
      "\nExamples:\n  dpo-train init --model examples/twin-tiny/model --dataset examples/twin-tiny/data/llmtwin-train.jsonl\n" +
        "  dpo-train init --model meta-llama/Llama-3.2-1B-Instruct --dataset trl-lib/ultrafeedback_binarized --out my.yaml",
    )
    .action((options: InitOptions) => {
      const terminal = createTerminal(process.stderr);
      return runCommand({ terminal }, async (signal) => {
        const { out } = options;
        if (out !== undefined && existsSync(out))
          throw new InputError(`--out ${printable(out)} is there already: give another name`);
        const text = await suggestConfig(options, terminal, signal);
        if (out === undefined) return void process.stdout.write(text);
        await writeNewFile(out, text);
        terminal.line(
          `wrote ${printable(out, 1000)}; look what it does: dpo-train --config ${printable(out, 1000)} --dry-run`,
        );
      });
    });
}

/** The text of a config for the options. @throws InputError where model or data cannot be read, or a setting does not fit */
export async function suggestConfig(options: InitOptions, terminal: Terminal, signal: AbortSignal): Promise<string> {
  const { model, dataset, out, set = [] } = options;
  const named = [`model=${JSON.stringify(model)}`, `dataset=${JSON.stringify(dataset)}`];
  const name = `${baseName(model)}-${baseName(dataset)}`;
  const config = parseConfig("", "--set", [...named, `output_dir=${JSON.stringify(`runs/${name}`)}`, ...set]);
  const folder = await describedModelFolder(config.model, fetching("model", terminal, signal));
  const facts = modelFacts(await readLlamaConfig(folder));
  const tokenizer = await loadTokenizer(folder);
  const given = keysOf(set);
  const data = await lookAtData(config, given, tokenizer, facts.context, fetching("data", terminal, signal));
  const file = out ?? "my.yaml";
  const header = [
    ...schemaLine(file),
    `Suggested by dpo-train init, from what is in the model and the data. docs/config.md lists every key.`,
    "",
    `  dpo-train --config ${printable(file, 1000)} --dry-run    # checks it, and shows the data`,
    `  dpo-train --config ${printable(file, 1000)}`,
  ];
  const text = commentedConfig(header, suggestSettings({ model: facts, data, config, given }));
  parseConfig(text, file); // What is suggested and what was asked for may not go together.
  return text;
}

/** The settings that `--set` names. */
function keysOf(set: readonly string[]): ReadonlySet<SettingKey> {
  const names = set.map((text) => text.slice(0, text.indexOf("=")).trim());
  return new Set(
    SETTING_KEYS.filter((key) => names.some((name) => name === key || (isSection(name) && key.startsWith(`${name}.`)))),
  );
}

/** The last part of a path or a Hub id, as a part of a folder's name. */
function baseName(reference: string): string {
  const last =
    reference
      .replace(/@[^/@]*$/, "")
      .split(/[/\\]+/)
      .findLast((part) => /\w/.test(part)) ?? "";
  return last.replace(/\.(jsonl?|csv|tsv|parquet)(\.gz)?$/i, "").replace(/[^\w.-]+/g, "-") || "data";
}

/** The comment by which editors find the schema, where its path can stand in one. */
function schemaLine(file: string): string[] {
  const schema = fileURLToPath(new URL("../../configs/schema.json", import.meta.url));
  const relative = path
    .relative(path.dirname(path.resolve(file)), schema)
    .split(path.sep)
    .join("/");
  return /^[\w./@+~-]+$/.test(relative) ? [`yaml-language-server: $schema=${relative}`, ""] : [];
}
