import { existsSync } from "node:fs";
import path from "node:path";
import { InputError } from "../errors.ts";
import { writeReport } from "../report/write-report.ts";
import type { Terminal } from "../terminal.ts";
import { RUN_FILE } from "../train/run-folder.ts";

/**
 * Writes report.html of a run that has ended, as far as it came. A page that cannot be written costs no run.
 * @returns the page's file; null where there is none
 */
export async function reportRun(folder: string, terminal: Terminal): Promise<string | null> {
  if (!existsSync(path.join(folder, RUN_FILE))) return null; // It ended before its first step.
  try {
    return (await writeReport(folder)).path;
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    terminal.line(`note: the run's report could not be written: ${error.message}`);
    return null;
  }
}
