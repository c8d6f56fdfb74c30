#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { addDevicesCommand } from "./devices.ts";
import { addGenerateCommand } from "./generate.ts";
import { addMergeCommand } from "./merge.ts";
import { addTrainCommand } from "./train.ts";

const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
  version: string;
};

const program = new Command("dpo-train")
  .description("Direct Preference Optimization of Llama models on WebGPU.")
  .version(version)
  .showHelpAfterError("(dpo-train --help lists the commands and options)")
  // An option behind a command belongs to the command, also where training has one of the same name.
  .enablePositionalOptions()
  .exitOverride();
addTrainCommand(program);
addGenerateCommand(program);
addMergeCommand(program);
addDevicesCommand(program);

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  // Commander has printed what is wrong. Its own exit code is 1, which here means a bug of ours.
  process.exitCode = error.exitCode === 0 ? 0 : 2;
}
