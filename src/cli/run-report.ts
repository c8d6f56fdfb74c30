import { existsSync } from "node:fs";
import path from "node:path";
import { InputError } from "../errors.ts";
import { writeReport } from "../report/write-report.ts";
import type { Terminal } from "../terminal.ts";
import { RUN_FILE } from "../train/run-folder.ts";

/** Writes report.html of a run that has ended, as far as it came. A page that cannot be written costs no run. */
export async function reportRun(folder: string, terminal: Terminal): Promise<void> {
  if (!existsSync(path.join(folder, RUN_FILE))) return; // It ended before its first step.
  try {
    await writeReport(folder);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    terminal.line(`note: the run's report could not be written: ${error.message}`);
  }
}
