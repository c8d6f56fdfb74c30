import type { Sweep, SweepRun } from "../config/sweep.ts";
import { InputError } from "../errors.ts";
import type { Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { fetching, withRun } from "../train/begin-run.ts";
import type { Inputs } from "../train/inputs.ts";
import { reportPreflight } from "../train/prepare-run.ts";
import { isEnd } from "./results.ts";
import { readState, requireSameSettings } from "./run-files.ts";

/** A run of a sweep that is not at its end. */
export interface OpenRun {
  readonly run: SweepRun;
  /** Its place in the sweep, from 0. */
  readonly index: number;
}

const SILENT: Terminal = { line: () => {}, status: () => {}, progress: () => {} };

/**
 * Looks at every run before the first one begins, so that a night does not end at the fifth for a slip in its settings, and
 * shows the data where they differ from those of the run before.
 *
 * @returns the runs that are left to do
 * @throws InputError for whatever would keep one of them from starting, and where a run that has begun had other settings
 *   or data
 */
export async function checkSweep(
  sweep: Sweep,
  inputs: Inputs,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<OpenRun[]> {
  const open: OpenRun[] = [];
  let shownData: unknown = null;
  for (const [index, run] of sweep.runs.entries()) {
    signal.throwIfAborted();
    terminal.status(`checking run ${index + 1} of ${sweep.runs.length}`);
    await requireSameSettings(run);
    const { status, dataSha256 } = await readState(run.config.output_dir);
    if (dataSha256)
      requireSameData(run, dataSha256, (await inputs.rows(run.config, fetching("data", terminal, signal))).sha256);
    if (isEnd(status)) continue;
    await withRun(run.config, status === "pending" ? undefined : true, inputs, SILENT, signal, async ({ prepared }) => {
      if (prepared.data !== shownData) reportPreflight(prepared, terminal);
      shownData = prepared.data;
    });
    open.push({ run, index });
  }
  return open;
}

function requireSameData(
  { name }: SweepRun,
  begun: Readonly<Record<string, string>>,
  now: Readonly<Record<string, string>>,
): void {
  const changed = Object.keys(now).filter((file) => begun[file] !== now[file]);
  if (changed.length === 0) return;
  throw new InputError(
    `${changed.map((file) => printable(file, 1000)).join(", ")}: the data has changed since the run ${printable(name)} of this sweep began, ` +
      "so its results would not compare with those of the others; restore it, or choose another output_dir",
  );
}
