import { type Command, Option } from "commander";
import { loadConfig } from "../config/load.ts";
import { InputError } from "../errors.ts";
import { createTerminal } from "../terminal.ts";
import { run } from "../train/run.ts";
import { runCommand } from "./run-command.ts";

interface TrainOptions {
  readonly config?: string;
  readonly set: readonly string[];
  readonly resume?: string | true;
  readonly device: string;
  readonly precision: "auto" | "f32" | "f16";
  readonly safe?: boolean;
  readonly dryRun?: boolean;
}

/** `dpo-train --config FILE`: trains. */
export function addTrainCommand(program: Command): void {
  program
    .option("--config <file>", "the config to train with, such as configs/twin.yaml")
    .option("--set <key=value>", "a setting in place of the config's; may be repeated", collect, [])
    .option("--resume [checkpoint]", "continue a run from its newest checkpoint, or from the one given")
    .option("--device <name>", "auto, software, or part of an adapter's name (dpo-train devices)", "auto")
    .addOption(
      new Option("--precision <path>", "numeric path of the matmuls").choices(["auto", "f32", "f16"]).default("auto"),
    )
    .option("--safe", "keep all checks of the GPU layer on: slower, and says more when something is wrong")
    .option("--dry-run", "check config, model files and data, show what would be trained, and stop")
    .action((options: TrainOptions) => runCommand(() => train(options)));
}

async function train({
  config: file,
  set,
  resume,
  device,
  precision,
  safe = false,
  dryRun = false,
}: TrainOptions): Promise<void> {
  if (file === undefined) throw new InputError("a config is needed: dpo-train --config FILE (dpo-train --help)");
  if (resume !== undefined) {
    throw new InputError("--resume is not supported by this version, which writes no checkpoints; leave it out");
  }
  if (precision === "f16") {
    throw new InputError("--precision f16 is not supported by this version; use auto or f32");
  }
  const { config } = loadConfig(file, set);
  await run({ config, device, profile: safe ? "safe" : "fast", dryRun }, createTerminal());
}

function collect(value: string, previous: readonly string[]): string[] {
  return [...previous, value];
}
