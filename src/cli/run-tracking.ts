import type { TrackerName } from "../config/names.ts";
import type { Config } from "../config/schema.ts";
import type { Sweep } from "../config/sweep.ts";
import type { Terminal } from "../terminal.ts";
import { findTrackers, readEnvironment } from "../track/environment.ts";
import { startTracking, type Tracking } from "../track/tracking.ts";

/** Sends runs to their trackers while they are trained, by their output folders. */
export interface RunTracking {
  /** A run that is sent already goes on being sent. */
  readonly start: (folder: string) => void;
  /** To be called when the run's files are as it leaves them. */
  readonly end: (folder: string) => Promise<void>;
  /** Ends whatever is still being sent. */
  readonly endAll: () => Promise<void>;
}

type TrackedConfig = Pick<Config, "output_dir" | "report_to">;

/**
 * Asks for all keys at once, before there is a device or a run. They are not asked for again.
 * @throws InputError where one is missing
 */
export function trackRuns(configs: readonly TrackedConfig[], terminal: Terminal): RunTracking {
  const names = [...new Set<TrackerName>(configs.flatMap(({ report_to }) => report_to))];
  const environment = names.length > 0 ? readEnvironment() : {};
  findTrackers(names, environment);
  const running = new Map<string, Tracking>();
  const end = async (folder: string) => {
    await running.get(folder)?.end();
    running.delete(folder);
  };
  return {
    start: (folder) => {
      if (running.has(folder)) return;
      const { report_to = [] } = configs.find(({ output_dir }) => output_dir === folder) ?? {};
      if (report_to.length === 0) return;
      const trackers = findTrackers(report_to, environment).map((create) => create(folder));
      running.set(folder, startTracking(folder, trackers, terminal.line));
    },
    end,
    endAll: async () => {
      await Promise.all([...running.keys()].map(end)); // Of a sweep with turns many wait, and each may take its time.
    },
  };
}

/** Each run of a sweep is one of its own at a tracker. @throws InputError as `trackRuns` */
export function trackSweep({ runs }: Sweep, terminal: Terminal): RunTracking {
  return trackRuns(
    runs.map(({ config }) => config),
    terminal,
  );
}
