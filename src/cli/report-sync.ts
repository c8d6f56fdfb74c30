import path from "node:path";
import { loadConfig } from "../config/load.ts";
import { InputError } from "../errors.ts";
import type { Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { findTrackers, readEnvironment } from "../track/environment.ts";
import { syncRun } from "../track/tracking.ts";
import { withFolderLock } from "../train/folder-lock.ts";
import { CONFIG_FILE } from "../train/run-folder.ts";

/**
 * Sends to a run's trackers what they do not have yet.
 * @throws InputError where it cannot all be sent, once every tracker has been tried, or where the run is being trained
 */
export async function syncFolder(folder: string, terminal: Terminal, signal: AbortSignal): Promise<void> {
  const { report_to: names } = loadConfig(path.join(folder, CONFIG_FILE)).config;
  if (names.length === 0) {
    throw new InputError(
      `${printable(folder, 1000)} was trained with report_to none: name trackers in report_to of its ${CONFIG_FILE} to send it`,
    );
  }
  const trackers = findTrackers(names, readEnvironment()).map((create) => create(folder));
  const problems: string[] = [];
  await withFolderLock(folder, terminal, signal, async (signal) => {
    for (const tracker of trackers) {
      const { sent, place, problem } = await syncRun(folder, tracker, signal);
      const where = place === null ? "" : `: ${place}`;
      terminal.line(`${tracker.name} has ${sent} records of ${printable(folder, 1000)}${where}`);
      if (problem !== null) problems.push(`${tracker.name}: ${problem}`);
    }
  });
  if (problems.length > 0) {
    throw new InputError(`not all of ${printable(folder, 1000)} could be sent: ${problems.join("; ")}`);
  }
}
