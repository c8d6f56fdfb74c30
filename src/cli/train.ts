import type { Command } from "commander";
import { loadConfig } from "../config/load.ts";
import { InputError } from "../errors.ts";
import { createTerminal, type Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { run } from "../train/run.ts";
import { type DeviceOptions, sessionRequest } from "./device-options.ts";
import { type LiveOption, withLive } from "./live.ts";
import { collect } from "./option-values.ts";
import { checkPush, pushWhenDone } from "./push-run.ts";
import { runCommand } from "./run-command.ts";
import { reportRun } from "./run-report.ts";
import { trackRuns } from "./run-tracking.ts";

interface TrainOptions extends DeviceOptions {
  readonly config?: string;
  readonly set?: readonly string[];
  readonly resume?: string | true;
  readonly profile?: boolean;
  readonly live?: LiveOption;
  readonly dryRun?: boolean;
}

/** `dpo-train --config FILE`: trains. */
export function addTrainCommand(program: Command): void {
  program
    .option("--config <file>", "train with this config, such as configs/twin.yaml")
    .option("--set <key=value>", "a setting in place of the config's; may be repeated", collect)
    .option("--device <name>", "software, or part of a GPU's name", "auto")
    .option("--precision <path>", "f32, or f16 on tensor cores", "auto")
    .option("--weights-cache", "keep converted weights on disk for the next run")
    .option("--device-memory <size>", "what the run may take on the GPU, such as 24GB")
    .option("--safe", "keep all checks of the GPU layer on: slower")
    .option("--watch", "notice when the GPU's driver loses work in silence")
    .option("--live [port]", "show the run in a browser while it trains")
    .option("--profile", "time each kernel in steps 2 to 4")
    .option("--dry-run", "check config, model and data, show the data, stop")
    .option("--resume [checkpoint]", "continue from the newest checkpoint, or this one")
    // What stands where a command would: without this it is counted, not named.
    .allowExcessArguments()
    .action((options: TrainOptions, { args }: Command) => {
      const terminal = createTerminal();
      return runCommand({ terminal, whenInterrupted: whenInterrupted(options) }, (signal) => {
        if (args[0] !== undefined) throw unknownCommand(args[0], program);
        return train(options, terminal, signal);
      });
    });
}

async function train(options: TrainOptions, terminal: Terminal, signal: AbortSignal): Promise<void> {
  const { config: file, set = [], resume, profile = false, dryRun = false, live } = options;
  if (file === undefined) throw new InputError("a config is needed: dpo-train --config FILE (dpo-train --help)");
  const session = sessionRequest(options);
  const { config } = loadConfig(file, set);
  const tracking = trackRuns([config], terminal);
  const onEnd = async (folder: string) => {
    const report = await reportRun(folder, terminal);
    if (report !== null) terminal.line(`report: ${printable(report, 1000)}`);
    await tracking.end(folder);
  };
  const hooks = { onStart: tracking.start, onEnd };
  await checkPush(config, [config.model], "the run", terminal, signal);
  const request = { ...session, config, profileSteps: profile, resume, ...hooks, dryRun };
  if (dryRun) return run(request, terminal, signal);
  await withLive(live, { kind: "run", folder: config.output_dir }, terminal, () => run(request, terminal, signal));
  await pushWhenDone(config, config.output_dir, terminal, signal);
}

function whenInterrupted({ resume }: TrainOptions): string {
  return resume === undefined ? "interrupted; nothing was written" : "interrupted; the checkpoints are as they were";
}

function unknownCommand(name: string, program: Command): InputError {
  const visible = program.createHelp().visibleCommands(program);
  const commands = visible
    .map((command) => command.name())
    .filter((command) => command !== "help")
    .join(", ");
  return new InputError(
    `unknown command "${printable(name)}": the commands are ${commands}; to train use dpo-train --config FILE`,
  );
}
