import type { Command } from "commander";
import { InputError } from "../errors.ts";
import { requireOwnPage, type WrittenReport, writeReport, writeReports } from "../report/write-report.ts";
import { createTerminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { syncFolder } from "./report-sync.ts";
import { runCommand } from "./run-command.ts";

const COMPARISON_FILE = "comparison.html";

interface ReportCommandOptions {
  readonly out?: string;
  readonly sync?: boolean;
}

/** `dpo-train report DIR...`: the pages that show runs. */
export function addReportCommand(program: Command): void {
  program
    .command("report")
    .summary("show runs: curves, warnings, samples")
    .description("write report.html into output folders from their files, and compare several runs in one page")
    .argument("<dir...>", "output folders of runs, also of one that goes on or was interrupted")
    .option("--out <file>", `the page of one run, or the comparison of several (${COMPARISON_FILE})`)
    .option("--sync", "send to the runs' trackers (report_to) what has not arrived, instead of writing pages")
    .addHelpText(
      "after",
      `
Examples:
  dpo-train report runs/twin-tiny
  dpo-train report runs/first runs/second --out comparison.html
  dpo-train report --sync runs/twin-tiny`,
    )
    .action((folders: string[], { out, sync = false }: ReportCommandOptions) => {
      const terminal = createTerminal();
      return runCommand({ terminal }, async (signal) => {
        if (sync) {
          if (out !== undefined) throw new InputError("--sync writes no page: remove --out, or --sync");
          for (const folder of folders) await syncFolder(folder, terminal, signal);
          return;
        }
        for (const { path, problems } of await write(folders, out)) {
          for (const problem of problems) terminal.line(problem);
          terminal.line(`wrote ${printable(path, 1000)}`);
        }
      });
    });
}

async function write(folders: readonly string[], out: string | undefined): Promise<WrittenReport[]> {
  if (out !== undefined) await requireOwnPage("--out", out);
  if (folders.length === 1) return [await writeReport(folders[0]!, out)];
  return writeReports(folders, out ?? COMPARISON_FILE);
}
