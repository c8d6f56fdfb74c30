import type { Command } from "commander";
import { createServer } from "../curation/ask/server.ts";
import { curationFiles } from "../curation/files.ts";
import { type JudgeOptions, judgeRows, planJudging } from "../curation/judge.ts";
import { readExamples, readJudgeRows } from "../curation/judge-rows.ts";
import { InputError } from "../errors.ts";
import { createTerminal, type Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import {
  type ApiOptions,
  addApiOptions,
  readAskSettings,
  readJudge,
  readLimits,
  readPrices,
  readTemperature,
} from "./api-options.ts";
import { addExamples } from "./examples.ts";
import { collect, namingOption } from "./option-values.ts";
import { runCommand } from "./run-command.ts";

interface JudgeCommandOptions extends ApiOptions {
  readonly in: string;
  readonly out: string;
  readonly judge?: readonly string[];
  readonly examples?: string;
  readonly agreement: string;
}

const DEFAULT_JUDGE = "gpt-4o-mini";

/** `dpo-train data judge`: which of two answers is better, by one judge or a jury. */
export function addJudgeCommand(data: Command): void {
  const command = data
    .command("judge")
    .summary("have answers judged in pairs, by one model or a jury")
    .description("have answers judged in pairs, in both orders, by one model or a jury (docs/data.md)")
    .requiredOption(
      "--in <file>",
      "rows {prompt, chosen, rejected}, {prompt, answers} or {instruction, answer_a, answer_b}",
    )
    .requiredOption("--out <file>", ".jsonl file for the rows on which the jury agrees")
    .option(
      "--judge <model[@url[#variable]]>",
      `a judge, its server if not --base-url, and its key's variable; may be repeated (default: ${DEFAULT_JUDGE})`,
      collect,
    )
    .option("--examples <file>", "verdicts to show first: {instruction, answer_a, answer_b, reasoning, best_answer}")
    .option("--agreement <rule>", "judges that must agree: majority or all", "majority");
  addExamples(command, [
    "dpo-train data judge --in pairs.jsonl --out judged.jsonl --dry-run",
    "dpo-train data judge --in pairs.jsonl --out judged.jsonl --judge gpt-4o-mini --judge qwen3@http://127.0.0.1:8000/v1",
  ]);
  addApiOptions(command, { temperature: "0" })
    .option("--dry-run", "show calls and what they may cost, and ask nothing")
    .action((options: JudgeCommandOptions) => {
      const terminal = createTerminal();
      return runCommand({ terminal, whenInterrupted: "interrupted: the same command goes on" }, async (signal) => {
        const judging = await readJudging(options, terminal);
        if (options.dryRun) await planJudging(judging);
        else await judgeRows(judging, signal);
      });
    });
}

async function readJudging(options: JudgeCommandOptions, terminal: Terminal): Promise<JudgeOptions> {
  const { agreement, examples, judge = [DEFAULT_JUDGE] } = options;
  if (agreement !== "majority" && agreement !== "all") {
    throw new InputError(`--agreement must be majority or all, got "${printable(agreement)}"`);
  }
  const servers = judge.map((text) => readJudge(text, options));
  return {
    files: curationFiles(options.out),
    judges: servers.map(createServer),
    agreement,
    temperature: readTemperature(options),
    ask: readAskSettings(options),
    limits: readLimits(options),
    prices: readPrices(options, servers),
    terminal,
    examples: examples === undefined ? [] : await namingOption("--examples", readExamples(examples)),
    input: await namingOption("--in", readJudgeRows(options.in)),
  };
}
