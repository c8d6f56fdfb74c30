import type { Command } from "commander";
import { addBuildCommand } from "./data-build.ts";
import { addJudgeCommand } from "./data-judge.ts";

/** `dpo-train data`: what is done with data sets before training. */
export function addDataCommand(program: Command): void {
  const data = program
    .command("data")
    .summary("make and judge preference data")
    .description("make and judge preference data");
  addBuildCommand(data);
  addJudgeCommand(data);
}
