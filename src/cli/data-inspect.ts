import { existsSync } from "node:fs";
import path from "node:path";
import { setImmediate } from "node:timers/promises";
import type { Command } from "commander";
import { loadConfig } from "../config/load.ts";
import { PROMPT_TEMPLATES, type PromptTemplate } from "../config/names.ts";
import type { Config } from "../config/schema.ts";
import { findContamination } from "../data/inspect/contamination.ts";
import { type InspectionReport, inspectRows, type TokenCounting } from "../data/inspect/inspect.ts";
import { findConcerns, formatContamination, formatInspection } from "../data/inspect/inspect-text.ts";
import { loadTokenizer } from "../data/tokenizer.ts";
import { InputError } from "../errors.ts";
import { findModelFolder } from "../hub/resolve.ts";
import { renderDataPage } from "../report/data-page.ts";
import { requireOwnPage } from "../report/write-report.ts";
import { createTerminal, type Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { type DataSettings, readData } from "../train/prepare-data.ts";
import { formatShare } from "../train/progress.ts";
import { writeFileAtomically } from "../weights/atomic-file.ts";
import { collect, parseWholeNumber } from "./option-values.ts";
import { runCommand } from "./run-command.ts";

interface InspectOptions {
  readonly config?: string;
  readonly set?: readonly string[];
  readonly evalDataset?: string;
  readonly datasetConfig?: string;
  readonly split?: string;
  readonly evalSplit?: string;
  readonly column?: readonly string[];
  readonly model?: string;
  readonly promptTemplate?: string;
  readonly maxLength?: string;
  readonly json?: boolean;
  readonly html?: string;
}

const DEFAULT_MAX_LENGTH = 1024;

/** `dpo-train data inspect`: what is in preference data, before a model learns it. */
export function addInspectCommand(data: Command): void {
  data
    .command("inspect")
    .summary("what is in preference data: lengths, repeats, odd text")
    .description("look at every row of preference data: lengths, cuts, repeats, empty answers, odd characters, overlap")
    .argument("[data]", "a file, a folder, or a Hub id as owner/name or owner/name@revision; without it the config's")
    .option(
      "--config <file>",
      "training config whose data, model, prompt_template and max_length hold unless given here",
    )
    .option("--set <key=value>", "a setting in place of the config's; may be repeated", collect)
    .option("--eval-dataset <data>", "test set to look at too, and to compare with the training set")
    .option("--split <name>", "split of a folder or Hub id")
    .option("--eval-split <name>", "split of the test set, when that is a folder or Hub id")
    .option("--dataset-config <name>", "configuration of a Hub id")
    .option("--column <ours=theirs>", "name of a column, such as prompt=question; may be repeated", collect)
    .option("--model <folder or id>", "model whose tokenizer counts; without one lengths are in characters")
    .option("--prompt-template <name>", `what is put around the prompt: ${PROMPT_TEMPLATES.join(", ")}`)
    .option("--max-length <count>", `longest prompt plus answer in tokens (default: ${DEFAULT_MAX_LENGTH})`)
    .option("--json", "print the result as JSON")
    .option("--html <file>", "write the result as a page too")
    .addHelpText(
      "after",
      "\nExamples:\n  dpo-train data inspect rows.jsonl --model examples/twin-tiny/model\n" +
        "  dpo-train data inspect trl-lib/ultrafeedback_binarized --eval-dataset trl-lib/ultrafeedback_binarized\n" +
        "  dpo-train data inspect --config configs/twin-tiny.yaml",
    )
    .action((dataset: string | undefined, options: InspectOptions) => {
      const terminal = createTerminal(process.stderr);
      return runCommand({ terminal }, async (signal) => {
        if (options.html !== undefined) await requireOwnPage("--html", options.html);
        const report = await inspect(dataset, options, terminal, signal);
        terminal.clear();
        if (options.html !== undefined) {
          await writeFileAtomically(options.html, renderDataPage(report));
          terminal.line(`wrote ${printable(options.html, 1000)}`);
        }
        process.stdout.write(`${options.json ? JSON.stringify(report, null, 2) : formatReport(report)}\n`);
      });
    });
}

async function inspect(
  dataset: string | undefined,
  options: InspectOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<InspectionReport> {
  const config = options.config === undefined ? null : loadConfig(options.config, options.set).config;
  if (config === null && options.set !== undefined)
    throw new InputError("--set needs --config: it changes the config's settings");
  const settings = settingsOf(dataset, options, config);
  const counting = await countingOf(options, config, terminal);
  const rows = await readData(settings, {
    signal,
    onNotice: terminal.line,
    onProgress: ({ doneBytes, totalBytes }) =>
      terminal.status(`fetching the data: ${formatShare(doneBytes, totalBytes)}`),
  });
  // Signals are told between the steps, which take seconds where the rows are many.
  const step = async <T>(what: string, work: () => T): Promise<T> => {
    terminal.status(what);
    await setImmediate();
    signal.throwIfAborted();
    return work();
  };
  const hasEvaluation = rows.evaluation.length > 0;
  const train = await step(`looking at ${rows.train.length} rows`, () => inspectRows(rows.train, counting));
  const evaluation = hasEvaluation
    ? await step(`looking at ${rows.evaluation.length} test rows`, () => inspectRows(rows.evaluation, counting))
    : null;
  const contamination = hasEvaluation
    ? await step("comparing training and test rows", () => findContamination(rows.train, rows.evaluation))
    : null;
  const concerns = findConcerns(train, contamination);
  return { dataset: printable(settings.dataset), train, evaluation, contamination, concerns };
}

/** Options win over the config. */
function settingsOf(dataset: string | undefined, options: InspectOptions, config: Config | null): DataSettings {
  const reference = dataset ?? config?.dataset;
  if (reference === undefined) throw new InputError("data is needed: dpo-train data inspect FILE, or --config FILE");
  // Data of its own has nothing to do with the config's test set and splits.
  const base = dataset === undefined ? config : null;
  return {
    dataset: reference,
    dataset_config: options.datasetConfig ?? base?.dataset_config,
    dataset_train_split: options.split ?? base?.dataset_train_split,
    dataset_test_split: options.evalSplit ?? base?.dataset_test_split,
    eval_dataset: options.evalDataset ?? base?.eval_dataset,
    columns: options.column === undefined ? (config?.columns ?? {}) : columnsOf(options.column),
    test_size: options.evalDataset === undefined ? base?.test_size : undefined,
    max_train_samples: base?.max_train_samples,
    seed: config?.seed ?? 42,
  };
}

const COLUMNS = ["prompt", "chosen", "rejected", "system"];

function columnsOf(pairs: readonly string[]): Config["columns"] {
  return Object.fromEntries(
    pairs.map((pair) => {
      const [, ours, theirs] = /^([^=]*)=(.+)$/s.exec(pair) ?? [];
      if (ours !== undefined && theirs !== undefined && COLUMNS.includes(ours)) return [ours, theirs];
      throw new InputError(
        `--column must be one of ${COLUMNS.join(", ")}, = and the column's name in the data, got "${printable(pair)}"`,
      );
    }),
  );
}

async function countingOf(
  options: InspectOptions,
  config: Config | null,
  terminal: Terminal,
): Promise<TokenCounting | null> {
  const maxLength =
    options.maxLength === undefined
      ? (config?.max_length ?? DEFAULT_MAX_LENGTH)
      : parseWholeNumber("--max-length", options.maxLength, { least: 2 });
  const promptTemplate = options.promptTemplate ?? config?.prompt_template ?? "none";
  if (!isPromptTemplate(promptTemplate)) {
    throw new InputError(
      `--prompt-template must be one of ${PROMPT_TEMPLATES.join(", ")}, got "${printable(promptTemplate)}"`,
    );
  }
  const model = options.model ?? config?.model;
  if (model === undefined) return null;
  const folder = await findModelFolder(model);
  if (folder !== null && existsSync(path.join(folder, "tokenizer.json"))) {
    return { tokenizer: await loadTokenizer(folder), promptTemplate, maxLength };
  }
  const missing = `the tokenizer of ${printable(model)} is neither in a local folder nor in the Hub's cache`;
  if (options.model !== undefined) throw new InputError(`--model: ${missing}: give a folder that holds tokenizer.json`);
  terminal.line(`note: ${missing}, so lengths are in characters`);
  return null;
}

function isPromptTemplate(name: string): name is PromptTemplate {
  return (PROMPT_TEMPLATES as readonly string[]).includes(name);
}

function formatReport({ dataset, train, evaluation, contamination, concerns }: InspectionReport): string {
  const indented = (lines: readonly string[]) => lines.map((line) => `  ${line}`);
  return [
    dataset,
    ...indented(formatInspection(train)),
    ...(evaluation ? ["evaluation data", ...indented(formatInspection(evaluation))] : []),
    ...(contamination
      ? ["evaluation data that is in the training data", ...indented(formatContamination(contamination))]
      : []),
    "worth a look",
    ...indented(concerns.length === 0 ? ["nothing"] : concerns),
  ].join("\n");
}
