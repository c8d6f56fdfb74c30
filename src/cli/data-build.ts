import type { Command } from "commander";
import { PROMPT_TEMPLATES, type PromptTemplate } from "../config/names.ts";
import { readArticles } from "../curation/articles.ts";
import { createServer } from "../curation/ask/server.ts";
import { type BuildOptions, buildPairs, planBuild } from "../curation/build.ts";
import { curationFiles } from "../curation/files.ts";
import type { OwnModel } from "../curation/own-answers.ts";
import { InputError } from "../errors.ts";
import { createTerminal, type Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import {
  type ApiOptions,
  addApiOptions,
  readAskSettings,
  readLimits,
  readPrices,
  readServer,
  readTemperature,
} from "./api-options.ts";
import { addExamples } from "./examples.ts";
import { namingOption, parseNumber, parseWholeNumber } from "./option-values.ts";
import { describeOwnModel } from "./own-model.ts";
import { runCommand } from "./run-command.ts";

interface BuildCommandOptions extends ApiOptions {
  readonly articles: string;
  readonly out: string;
  readonly model: string;
  readonly testSize?: string;
  readonly seed: string;
  readonly rejectedFrom?: string;
  readonly rejectedAdapter?: string;
  readonly promptTemplate: string;
  readonly maxNewTokens: string;
  readonly device: string;
}

/** `dpo-train data build`: preference pairs out of articles. */
export function addBuildCommand(data: Command): void {
  const command = data
    .command("build")
    .summary("make preference pairs of articles")
    .description("make preference pairs of articles, as the LLM Engineer's Handbook does (docs/data.md)")
    .requiredOption("--articles <file>", ".json or .jsonl file of articles: objects with content")
    .requiredOption("--out <file>", ".jsonl file for the pairs; journal and report lie beside it")
    .option("--model <name>", "model that writes instructions and answers", "gpt-4o-mini");
  addExamples(command, [
    "dpo-train data build --articles articles.json --out pairs.jsonl --dry-run",
    "dpo-train data build --articles articles.json --out pairs.jsonl --budget-usd 1 --test-size 0.05",
  ]);
  addApiOptions(command, { temperature: "0.7" })
    .option("--test-size <share or number>", "write a split too: OUT-train.jsonl and OUT-test.jsonl")
    .option("--seed <number>", "of the split", "42")
    .option(
      "--rejected-from <folder>",
      "model folder that answers the instructions in place of --model: on-policy pairs",
    )
    .option("--rejected-adapter <folder>", "PEFT adapter to use on it")
    .option(
      "--prompt-template <name>",
      `what is put around an instruction for it: ${PROMPT_TEMPLATES.join(", ")}`,
      "alpaca",
    )
    .option("--max-new-tokens <count>", "longest of its answers in tokens", "256")
    .option("--device <name>", "for it: auto, software, or a part of an adapter's name", "auto")
    .option("--dry-run", "show extracts, calls and what they may cost, and ask nothing")
    .action((options: BuildCommandOptions) => {
      const terminal = createTerminal();
      return runCommand({ terminal, whenInterrupted: "interrupted: the same command goes on" }, async (signal) => {
        const build = await readBuild(options, terminal, signal);
        if (options.dryRun) await planBuild(build);
        else await buildPairs(build, signal);
      });
    });
}

async function readBuild(options: BuildCommandOptions, terminal: Terminal, signal: AbortSignal): Promise<BuildOptions> {
  const server = readServer(options.model, options);
  const testSize = options.testSize === undefined ? null : parseNumber("--test-size", options.testSize, { least: 0 });
  if (testSize === 0 || (testSize !== null && testSize > 1 && !Number.isInteger(testSize))) {
    throw new InputError(
      `--test-size must be a share between 0 and 1 or a whole number of rows, got "${printable(options.testSize!)}"`,
    );
  }
  return {
    files: curationFiles(options.out),
    server: createServer(server),
    temperature: readTemperature(options),
    ask: readAskSettings(options),
    limits: readLimits(options),
    prices: readPrices(options, [server]),
    testSize,
    seed: parseWholeNumber("--seed", options.seed, { least: 0 }),
    terminal,
    ownModel: await readOwnModel(options, terminal, signal),
    articles: await readArticles(options.articles),
  };
}

async function readOwnModel(
  options: BuildCommandOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<OwnModel | null> {
  const { rejectedFrom, rejectedAdapter, promptTemplate, device } = options;
  if (!isPromptTemplate(promptTemplate)) {
    throw new InputError(
      `--prompt-template must be one of ${PROMPT_TEMPLATES.join(", ")}, got "${printable(promptTemplate)}"`,
    );
  }
  const maxNewTokens = parseWholeNumber("--max-new-tokens", options.maxNewTokens, { least: 1 });
  if (rejectedFrom === undefined) {
    if (rejectedAdapter !== undefined) throw new InputError("--rejected-adapter needs --rejected-from, its base model");
    return null;
  }
  const own = {
    folder: rejectedFrom,
    adapter: rejectedAdapter ?? null,
    promptTemplate,
    temperature: readTemperature(options),
    maxNewTokens,
    device,
  };
  return namingOption("--rejected-from", describeOwnModel(own, terminal, signal));
}

function isPromptTemplate(name: string): name is PromptTemplate {
  return (PROMPT_TEMPLATES as readonly string[]).includes(name);
}
