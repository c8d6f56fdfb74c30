import { readFileSync } from "node:fs";
import { runCommand } from "../../../src/cli/run-command.ts";
import type { SweepTask } from "../../../src/sweep/executors/executor.ts";
import { sharedPlaces } from "../../../src/sweep/executors/gpu-pinning.ts";
import { runLocally } from "../../../src/sweep/executors/local.ts";
import { createTerminal } from "../../../src/terminal.ts";
import { fakeTaskCommand, statusOf } from "./fake-sweep.ts";

/** Trains a sweep in a process of its own, which a test can send signals: local-runner.ts SWEEP_FOLDER TASKS_FILE. */
const [, , sweepFolder, tasksFile] = process.argv;
const terminal = createTerminal();
await runCommand({ terminal }, async (signal) => {
  await runLocally({
    tasks: JSON.parse(readFileSync(tasksFile!, "utf8")) as SweepTask[],
    taskCommand: (index) => fakeTaskCommand(sweepFolder!, index),
    statusOf: async (task) => statusOf(task),
    stepsOf: async () => 0,
    sweepFolder: sweepFolder!,
    terminal,
    signal,
    retries: 0,
    onChange: () => {},
    places: sharedPlaces(2),
  });
});
