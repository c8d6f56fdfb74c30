import type { Command } from "commander";
import { addBuildCommand } from "./data-build.ts";
import { addInspectCommand } from "./data-inspect.ts";
import { addJudgeCommand } from "./data-judge.ts";
import { addExamples } from "./examples.ts";

/** `dpo-train data`: what is done with data sets before training. */
export function addDataCommand(program: Command): void {
  const data = program
    .command("data")
    .summary("inspect, build and judge preference data")
    .description("inspect, build and judge preference data");
  addExamples(data, [
    "dpo-train data inspect trl-lib/ultrafeedback_binarized",
    "dpo-train data build --articles articles.json --out pairs.jsonl --dry-run",
    "dpo-train data judge --in pairs.jsonl --out judged.jsonl",
  ]);
  addInspectCommand(data);
  addBuildCommand(data);
  addJudgeCommand(data);
}
