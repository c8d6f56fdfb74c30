import { type Command, InvalidArgumentError } from "commander";
import { InputError } from "../errors.ts";
import { pause } from "../hub/pause.ts";
import { readRunFiles } from "../report/run-files.ts";
import { requireOwnPage, type WrittenReport, writeReport, writeReports } from "../report/write-report.ts";
import { createTerminal, type Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { type LiveOption, withLive } from "./live.ts";
import { syncFolder } from "./report-sync.ts";
import { runCommand } from "./run-command.ts";

/** The longest time that a timer takes. */
const FOR_EVER_MS = 2 ** 31 - 1;

const COMPARISON_FILE = "comparison.html";

interface ReportCommandOptions {
  readonly out?: string;
  readonly sync?: boolean;
  readonly live?: LiveOption;
}

/** `dpo-train report DIR...`: the pages that show runs. */
export function addReportCommand(program: Command): void {
  program
    .command("report")
    .summary("show runs: curves, warnings, samples")
    .description("write report.html into output folders from their files, and compare several runs in one page")
    .argument("<dir...>", "output folders of runs, also of one that goes on or was interrupted")
    .option("--out <file>", `the page of one run, or the comparison of several (${COMPARISON_FILE})`)
    .option("--live [port]", "show the run in a browser while another process trains it, until Ctrl-C", requirePort)
    .option("--sync", "send to the runs' trackers (report_to) what has not arrived, instead of writing pages")
    .addHelpText(
      "after",
      `
Examples:
  dpo-train report runs/twin-tiny
  dpo-train report runs/first runs/second --out comparison.html
  dpo-train report runs/twin-tiny --live
  dpo-train report --sync runs/twin-tiny`,
    )
    .action((folders: string[], { out, sync = false, live }: ReportCommandOptions) => {
      const terminal = createTerminal();
      return runCommand({ terminal }, async (signal) => {
        if (live !== undefined) {
          if (out !== undefined || sync)
            throw new InputError("--live writes and sends nothing: remove --out and --sync");
          return showLive(live, folders, terminal, signal);
        }
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

/** A folder behind --live would be taken for its port, and then be missing. */
function requirePort(text: string): string {
  if (/^\d+$/.test(text)) return text;
  throw new InvalidArgumentError("It must be a port; the folder stands in front: dpo-train report DIR --live");
}

/** Shows a run until the signal. */
async function showLive(
  option: string | true,
  folders: readonly string[],
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const [folder, ...more] = folders;
  if (folder === undefined || more.length > 0) {
    throw new InputError(`--live shows one run, found ${folders.length} folders: name one`);
  }
  await readRunFiles(folder); // So that what is no run's folder is refused.
  await withLive(option, { kind: "run", folder }, terminal, async () => {
    terminal.line("Ctrl-C ends it");
    while (!signal.aborted) await pause(FOR_EVER_MS, signal).catch(() => {});
  });
}

async function write(folders: readonly string[], given: string | undefined): Promise<WrittenReport[]> {
  const out = given ?? (folders.length > 1 ? COMPARISON_FILE : undefined);
  if (out !== undefined) await requireOwnPage("--out", out);
  if (out === undefined || folders.length === 1) return [await writeReport(folders[0]!, out)];
  return writeReports(folders, out);
}
