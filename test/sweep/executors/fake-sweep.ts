import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { ExecutorOptions, SweepTask } from "../../../src/sweep/executors/executor.ts";
import type { RunStatus } from "../../../src/sweep/results.ts";

const FAKE_TASK = fileURLToPath(new URL("fake-task.sh", import.meta.url));

/** What a run of a fake sweep does. */
export interface FakePlan {
  /** Steps of 50 ms. */
  readonly total?: number;
  readonly outcome?: "done" | "failed" | "crash";
  /** How often it crashes before. */
  readonly crashes?: number;
}

/** A time in which a process trained a run. */
export interface Interval {
  readonly run: string;
  readonly gpu: string;
  readonly jobId: string;
  readonly begin: number;
  /** Infinity where it was killed. */
  readonly end: number;
}

/** A sweep whose runs are trained by a shell script, in a temporary folder with a name that needs quoting. */
export interface FakeSweep {
  readonly folder: string;
  readonly tasks: readonly SweepTask[];
  readonly lines: string[];
  readonly statuses: () => RunStatus[];
  readonly intervals: (run: string) => Interval[];
  readonly pidOf: (run: string) => number;
  readonly options: ExecutorOptions;
  readonly changes: () => number;
  readonly remove: () => void;
}

export function fakeSweep(plans: readonly FakePlan[], overrides: Partial<ExecutorOptions> = {}): FakeSweep {
  const folder = mkdtempSync(join(tmpdir(), "it's a sweep 100% "));
  const tasks = plans.map((plan, index) => {
    const task = { index, name: `run ${index}`, folder: join(folder, String(index)) };
    mkdirSync(task.folder);
    const settings = Object.entries(plan).map(([name, value]) => `${name}=${value}\n`);
    writeFileSync(join(task.folder, "plan"), settings.join(""));
    return task;
  });
  const lines: string[] = [];
  let changes = 0;
  const intervals = (run: string) => intervalsOf(run, read(join(folder, run, "events"), ""));
  const addLine = (text: string) => void lines.push(text);
  return {
    folder,
    tasks,
    lines,
    intervals,
    statuses: () => tasks.map(statusOf),
    pidOf: (run) =>
      Number(
        read(join(folder, run, "events"), "")
          .trim()
          .split("\n")
          .at(-1)
          ?.split(" ")
          .at(-1),
      ),
    changes: () => changes,
    remove: () => rmSync(folder, { recursive: true, force: true }),
    options: {
      tasks,
      taskCommand: (index) => fakeTaskCommand(folder, index),
      statusOf: async (task) => statusOf(task),
      stepsOf: async (task) => Number(read(join(task.folder, "steps"), "0")),
      sweepFolder: folder,
      terminal: { line: addLine, status: () => {}, progress: addLine },
      signal: new AbortController().signal,
      retries: 3,
      onChange: () => {
        changes++;
      },
      ...overrides,
    },
  };
}

export function fakeTaskCommand(folder: string, index: number | string): string[] {
  return [FAKE_TASK, folder, String(index)];
}

export function statusOf(task: SweepTask): RunStatus {
  return read(join(task.folder, "status"), "pending").trim() as RunStatus;
}

function read(file: string, missing: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return missing;
  }
}

function intervalsOf(run: string, events: string): Interval[] {
  const intervals: Interval[] = [];
  for (const line of events.split("\n").filter((text) => text !== "")) {
    const [kind, time, gpu, jobId] = line.split(" ");
    if (kind === "begin") intervals.push({ run, gpu: gpu!, jobId: jobId!, begin: Number(time), end: Infinity });
    else intervals.push({ ...intervals.pop()!, end: Number(time) });
  }
  return intervals;
}

/** How many of the intervals went on at the same time at most. */
export function mostAtOnce(intervals: readonly Interval[]): number {
  const running = intervals.map(({ begin }) => intervals.filter((other) => other.begin <= begin && begin < other.end));
  return Math.max(0, ...running.map((at) => at.length));
}
