import type { Command } from "commander";
import { addBuildCommand } from "./data-build.ts";
import { addInspectCommand } from "./data-inspect.ts";
import { addJudgeCommand } from "./data-judge.ts";

/** `dpo-train data`: what is done with data sets before training. */
export function addDataCommand(program: Command): void {
  const data = program
    .command("data")
    .summary("inspect, build and judge preference data")
    .description("inspect, build and judge preference data");
  addInspectCommand(data);
  addBuildCommand(data);
  addJudgeCommand(data);
}
