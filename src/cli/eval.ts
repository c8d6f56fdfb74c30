import { existsSync } from "node:fs";
import path from "node:path";
import type { Command } from "commander";
import { loadConfig } from "../config/load.ts";
import { createServer } from "../curation/ask/server.ts";
import { InputError } from "../errors.ts";
import { EVALUATION_FILES, type EvaluationRequest, evaluateModel } from "../evaluation/evaluate-model.ts";
import type { Evaluation } from "../evaluation/evaluation.ts";
import type { JudgeSettings } from "../evaluation/judge.ts";
import { summarize } from "../evaluation/summary.ts";
import { renderEvaluation } from "../report/eval-page.ts";
import { createTerminal, type Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { writeFileAtomically } from "../weights/atomic-file.ts";
import { type ApiOptions, addApiOptions, readAskSettings, readJudge, readLimits, readPrices } from "./api-options.ts";
import { type DeviceOptions, sessionRequest } from "./device-options.ts";
import { collect, parseNumber, parseWholeNumber } from "./option-values.ts";
import { runCommand } from "./run-command.ts";

interface EvalOptions extends DeviceOptions, ApiOptions {
  readonly config: string;
  readonly set?: readonly string[];
  readonly adapter?: string;
  readonly merged?: string;
  readonly questions?: string;
  readonly limit?: string;
  readonly maxNewTokens: string;
  readonly topP: string;
  readonly seed?: string;
  readonly judge?: readonly string[];
  readonly judgeTemperature: string;
  readonly out?: string;
}

/** `dpo-train eval --config FILE`: what training has changed. */
export function addEvalCommand(program: Command): void {
  const command = program
    .command("eval")
    .summary("compare a trained model with its base")
    .description(
      "compare a trained model with its base: on held-out pairs, by answers, by style, and by what judges say (docs/evaluation.md)",
    )
    .requiredOption("--config <file>", "the config of its training")
    .option("--set <key=value>", "a setting in place of the config's; may be repeated", collect)
    .option("--adapter <folder>", "the trained adapter (default: output_dir/adapter)")
    .option("--merged <folder>", "a trained model in place of an adapter")
    .option("--questions <file>", "questions to ask (default: the prompts of the held-out pairs)")
    .option("--limit <count>", "ask this many questions at most, the first ones")
    .option("--max-new-tokens <count>", "longest answer in tokens", "256")
    .option("--temperature <number>", "randomness; 0: always the likeliest token", "0")
    .option("--top-p <number>", "draw from the likeliest tokens that together reach this probability", "1")
    .option("--seed <number>", "of drawn answers and of the samples for intervals (default: the config's)")
    .option("--out <folder>", "where results go (default: output_dir/evaluation)")
    .option("--device <name>", "software, or part of a GPU's name", "auto")
    .option("--precision <path>", "f32, or f16 on tensor cores", "auto")
    .option("--weights-cache", "keep converted weights on disk for the next run")
    .option("--judge <model[@url[#variable]]>", "a model that scores the answers; may be repeated", collect)
    .option("--judge-temperature <number>", "randomness of the judges", "0");
  addApiOptions(command, null)
    .addHelpText(
      "after",
      `
Examples:
  dpo-train eval --config configs/twin.yaml
  dpo-train eval --config configs/twin.yaml --questions instructions.jsonl --limit 50 --judge gpt-4o-mini`,
    )
    .action((options: EvalOptions) => {
      const terminal = createTerminal();
      return runCommand({ terminal, whenInterrupted: "interrupted; the same command goes on" }, (signal) =>
        evaluateModel(readRequest(options, terminal), terminal, signal),
      );
    });
}

/** @throws InputError where an option has no such value, or there is nothing to compare */
function readRequest(options: EvalOptions, terminal: Terminal): EvaluationRequest {
  const { limit, seed, out } = options;
  const { config } = loadConfig(options.config, options.set);
  const folder = out ?? path.join(config.output_dir, "evaluation");
  if (out === undefined && !existsSync(config.output_dir)) {
    throw new InputError(
      `output_dir ${printable(config.output_dir, 1000)} does not exist, where results would go: train first, or name another folder with --out`,
    );
  }
  return {
    config,
    session: sessionRequest(options),
    trained: findTrained(options, config.output_dir),
    questions: options.questions ?? null,
    limit: limit === undefined ? Number.POSITIVE_INFINITY : parseWholeNumber("--limit", limit, { least: 1 }),
    ask: {
      maxNewTokens: parseWholeNumber("--max-new-tokens", options.maxNewTokens, { least: 1 }),
      temperature: parseNumber("--temperature", options.temperature, { least: 0 }),
      topP: parseNumber("--top-p", options.topP, { least: 0, most: 1 }),
      seed: seed === undefined ? config.seed : parseWholeNumber("--seed", seed, { least: 0 }),
    },
    judge: readJudges(options),
    out: folder,
    onFound: async (evaluation) => {
      const page = path.join(folder, EVALUATION_FILES.page);
      await writeFileAtomically(page, renderEvaluation(evaluation));
      tell(evaluation, page, terminal);
    },
  };
}

function findTrained(
  { adapter, merged }: Pick<EvalOptions, "adapter" | "merged">,
  outputDir: string,
): EvaluationRequest["trained"] {
  if (adapter !== undefined && merged !== undefined) {
    throw new InputError("--adapter and --merged must not both be given; leave one out");
  }
  if (merged !== undefined) return { kind: "merged", folder: merged };
  if (adapter !== undefined) return { kind: "adapter", folder: adapter };
  const folder = path.join(outputDir, "adapter");
  if (existsSync(folder)) return { kind: "adapter", folder };
  throw new InputError(
    `${printable(folder, 1000)} does not exist: the training that the config describes has not come to its end; finish it, or name what was trained with --adapter FOLDER or --merged FOLDER`,
  );
}

function readJudges(options: EvalOptions): JudgeSettings | null {
  if (options.judge === undefined) return null;
  const servers = options.judge.map((text) => readJudge(text, options));
  return {
    judges: servers.map(createServer),
    temperature: parseNumber("--judge-temperature", options.judgeTemperature, { least: 0, most: 2 }),
    ask: readAskSettings(options),
    limits: readLimits(options),
    prices: readPrices(options, servers),
  };
}

function tell(evaluation: Evaluation, page: string, terminal: Terminal): void {
  for (const line of summarize(evaluation)) terminal.line(line);
  terminal.line(`results: ${printable(page, 1000)}`);
}
