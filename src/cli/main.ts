#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { printableLines } from "../text.ts";
import { fileError } from "../weights/regular-file.ts";
import { addCompletionCommand } from "./completion.ts";
import { addDataCommand } from "./data.ts";
import { addDevicesCommand } from "./devices.ts";
import { addEvalCommand } from "./eval.ts";
import { addGenerateCommand } from "./generate.ts";
import { formatHelp } from "./help.ts";
import { addInitCommand } from "./init.ts";
import { addMergeCommand } from "./merge.ts";
import { addPlanCommand } from "./plan.ts";
import { addPushCommand } from "./push.ts";
import { addReportCommand } from "./report.ts";
import { reportError } from "./run-command.ts";
import { addSweepCommand } from "./sweep.ts";
import { addTrainCommand } from "./train.ts";

const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
  version: string;
};

const outputErrors: NodeJS.ErrnoException[] = [];
process.stdout.on("error", (error) => outputErrors.push(error));
process.stderr.on("error", () => {}); // Nobody is left to tell.

const program = new Command("dpo-train")
  .description("Direct Preference Optimization of Llama models on WebGPU.")
  .version(version, "-V, --version", "print the version")
  .helpOption("-h, --help", "print this, or behind a command its options")
  .helpCommand("help [command]", "print the options of a command")
  .addHelpText("after", "Exit codes: 0 done, 1 bug, 2 bad input, 3 device, 4 not finite, 130/143 stopped")
  .showHelpAfterError("(dpo-train --help lists the commands and options)")
  .configureHelp({ formatHelp })
  .configureOutput({
    outputError: (text, write) => write(printableLines(text.replace(/^error: /, "dpo-train: "))),
  })
  // An option behind a command belongs to the command, also where training has one of the same name.
  .enablePositionalOptions()
  .hook("preSubcommand", refuseTrainingOptions)
  .exitOverride();
addGenerateCommand(program);
addMergeCommand(program);
addDevicesCommand(program);
addPlanCommand(program);
addSweepCommand(program);
addEvalCommand(program);
addReportCommand(program);
addPushCommand(program);
addDataCommand(program);
addInitCommand(program);
addCompletionCommand(program);
pointToOwnHelp(program);
addTrainCommand(program); // Last: commands inherit the program's settings when they are made, and this one's are its own.

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  // Commander has printed what is wrong. Its own exit code is 1, which here means a bug of ours.
  process.exitCode = error.exitCode === 0 ? 0 : 2;
}
// Told at the end: a run of hours goes on when what shows its progress is gone.
await new Promise((resolve) => setImmediate(resolve)); // A write that failed is told of in a later turn.
const [outputError] = outputErrors;
// A reader that leaves, such as head, has read enough: that is no error.
if (outputError && outputError.code !== "EPIPE") {
  process.exitCode ||= reportError(fileError("standard output", "write", outputError));
}

/** What is wrong with the words behind a command is told with the command whose help lists them. */
function pointToOwnHelp(command: Command, name = "dpo-train"): void {
  for (const inner of command.commands) {
    const innerName = `${name} ${inner.name()}`;
    inner.showHelpAfterError(`(${innerName} --help lists what it takes)`);
    pointToOwnHelp(inner, innerName);
  }
}

/** An option in front of a command is training's, so the command would not see it. */
function refuseTrainingOptions(training: Command, command: Command): void {
  const given = training.options.filter((option) => training.getOptionValueSource(option.attributeName()) === "cli");
  if (given.length === 0) return;
  const names = given.map(({ long }) => long).join(", ");
  training.error(`error: ${names} must stand behind the command: dpo-train ${command.name()} --option`);
}
