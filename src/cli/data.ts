import type { Command } from "commander";
import { addBuildCommand } from "./data-build.ts";

/** `dpo-train data`: what is done with data sets before training. */
export function addDataCommand(program: Command): void {
  const data = program.command("data").summary("make preference data").description("make preference data");
  addBuildCommand(data);
}
