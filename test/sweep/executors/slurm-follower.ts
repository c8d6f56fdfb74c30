import { readFileSync } from "node:fs";
import type { SweepTask } from "../../../src/sweep/executors/executor.ts";
import { runOnSlurm } from "../../../src/sweep/executors/slurm.ts";
import { fakeTaskCommand, statusOf } from "./fake-sweep.ts";

/** Follows a sweep in a process of its own, which a test can kill: slurm-follower.ts SWEEP_FOLDER TASKS_FILE POLL_INTERVAL_MS. */
const [, , sweepFolder, tasksFile, pollIntervalMs] = process.argv;
const line = (text: string) => void process.stdout.write(`${text}\n`);
const unfinished = await runOnSlurm({
  tasks: JSON.parse(readFileSync(tasksFile!, "utf8")) as SweepTask[],
  taskCommand: (index) => fakeTaskCommand(sweepFolder!, index),
  statusOf: async (task) => statusOf(task),
  stepsOf: async () => 0,
  sweepFolder: sweepFolder!,
  terminal: { line, status: line, progress: line },
  signal: new AbortController().signal,
  retries: 0,
  onChange: () => {},
  sweepId: "a",
  throttle: 2,
  sbatchOptions: [],
  pollIntervalMs: Number(pollIntervalMs),
});
process.exitCode = unfinished.length === 0 ? 0 : 1;
