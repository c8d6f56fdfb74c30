import type { Command } from "commander";
import { loadConfig } from "../config/load.ts";
import { InputError } from "../errors.ts";
import { planningAdapter } from "../plan/adapters.ts";
import { makePlan } from "../plan/plan.ts";
import { formatPlan, planJson } from "../plan/report.ts";
import { planSources } from "../plan/sources.ts";
import { createTerminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { collect, parseMemory, parseWholeNumber } from "./option-values.ts";
import { runCommand } from "./run-command.ts";

interface PlanCommandOptions {
  readonly config: string;
  readonly set?: readonly string[];
  readonly deviceMemory?: string;
  readonly shape?: string;
  readonly pairs?: string;
  readonly precision: string;
  readonly json?: boolean;
}

/** `dpo-train plan --config FILE`: what a run will take. */
export function addPlanCommand(program: Command): void {
  program
    .command("plan")
    .summary("memory, steps and work of a run, without a GPU")
    .description("show what a run will take, with neither a GPU nor the model's weights")
    .requiredOption("--config <file>", "plan for this config")
    .option("--set <key=value>", "a setting in place of the config's; may be repeated", collect)
    .option("--device-memory <size>", "memory of the GPU, such as 24GB: what fits is chosen, or told what does not")
    .option("--shape <size>", "a published model's shape in place of the config's model: 135m, 1b, 3b, 8b, 70b")
    .option("--pairs <number>", "so many rows, each as long as max_length lets it be, in place of the data set")
    .option("--precision <path>", "matmuls in f32, or in f16 on tensor cores", "f16")
    .option("--json", "print the plan as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  dpo-train plan --config configs/twin.yaml --shape 8b --device-memory 24GB\n  dpo-train plan --config configs/twin-tiny.yaml --json",
    )
    .action((options: PlanCommandOptions) =>
      runCommand({ terminal: createTerminal() }, async () => {
        const { precision } = options;
        if (precision !== "f32" && precision !== "f16") {
          throw new InputError(`--precision must be f32 or f16, got "${printable(precision)}"`);
        }
        const memoryBytes = options.deviceMemory === undefined ? null : parseMemory(options.deviceMemory);
        const pairs =
          options.pairs === undefined ? undefined : parseWholeNumber("--pairs", options.pairs, { least: 1 });
        const { config } = loadConfig(options.config, options.set);
        const sources = await planSources(config, { shape: options.shape, pairs });
        const plan = makePlan(config, sources, { adapter: planningAdapter(precision), precision, memoryBytes });
        const text = options.json ? JSON.stringify(planJson(plan), null, 2) : formatPlan(plan).join("\n");
        process.stdout.write(`${text}\n`);
      }),
    );
}
