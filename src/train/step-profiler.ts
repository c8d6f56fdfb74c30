import { DeviceError } from "../errors.ts";
import type { TimedDispatch } from "../gpu/profiler.ts";
import type { OpenedDevice } from "../platform/dawn.ts";
import type { Terminal } from "../terminal.ts";
import { chromeTrace, formatProfile, type GpuProfile, summarize } from "./profile.ts";
import type { RunFolder } from "./run-folder.ts";

/** Steps that are timed: the first one has everything to warm up. */
const FIRST_STEP = 2;
const LAST_STEP = 4;

/** Times the GPU's work in a few steps of a run. */
export interface StepProfiler {
  readonly steps: GpuProfile["steps"];
  /** To be called before each step. */
  readonly onStepStart: (step: number) => void;
  /** What was timed. To be called once the loop is done. */
  readonly collect: () => Promise<TimedDispatch[]>;
}

/** @throws DeviceError where the adapter has no timestamps */
export function createStepProfiler({ gpu, adapter }: OpenedDevice, totalSteps: number): StepProfiler {
  const { profiler } = gpu;
  if (!profiler) {
    throw new DeviceError(
      `--profile needs the feature timestamp-query, which ${adapter.name} does not have; leave it out`,
    );
  }
  const first = Math.min(FIRST_STEP, totalSteps);
  const last = Math.min(LAST_STEP, totalSteps);
  return {
    steps: [first, last],
    onStepStart: (step) => {
      profiler.isActive = step >= first && step <= last;
    },
    collect: () => {
      profiler.isActive = false;
      return profiler.collect();
    },
  };
}

/** Shows what was timed as a table, and writes profile.json and trace.json into the output folder. */
export async function reportProfile(profiler: StepProfiler, output: RunFolder, terminal: Terminal): Promise<void> {
  const timed = await profiler.collect();
  const profile = summarize(timed, profiler.steps);
  await output.write("profile.json", `${JSON.stringify(profile, null, 2)}\n`);
  await output.write("trace.json", chromeTrace(timed));
  for (const line of formatProfile(profile)) terminal.line(line);
}
