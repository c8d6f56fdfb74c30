import { randomBytes } from "node:crypto";
import { basename, join } from "node:path";
import { InputError } from "../../errors.ts";
import { printable } from "../../text.ts";
import { writeFileAtomically } from "../../weights/atomic-file.ts";
import { makeFolder } from "../../weights/make-folder.ts";
import { fileError, readTextFile } from "../../weights/regular-file.ts";
import type { TaskCommand } from "./executor.ts";
import { hideOthersScript } from "./gpu-pinning.ts";
import { quote } from "./shell.ts";

/** What is kept of a sweep's jobs in `slurm/jobs.json`. */
export interface SlurmRecord {
  /** The name of all of the sweep's jobs, which no other sweep has: by it they are found in the queue. */
  readonly jobName: string;
  /** The form of the sweep that the tasks' indices belong to. */
  readonly sweepId: string;
  /** A submission was begun, and it was not heard how it ended: Slurm may be about to take a job. */
  readonly isSubmitting: boolean;
  /** For people: what was submitted and when. */
  readonly jobs: readonly { readonly id: number; readonly tasks: string; readonly submitted: string }[];
}

/** Batch script, logs and record of a sweep's jobs. */
export interface SlurmFiles {
  readonly folder: string;
  readonly script: string;
  readonly record: string;
}

export function slurmFiles(sweepFolder: string): SlurmFiles {
  const folder = join(sweepFolder, "slurm");
  return { folder, script: join(folder, "task.sh"), record: join(folder, "jobs.json") };
}

/** The log of a run: of all of its attempts, one behind the other. */
export function logFile({ folder }: SlurmFiles, index: number): string {
  return join(folder, `${index}.log`);
}

/** What sbatch puts the task's index in place of. */
const INDEX = "$SLURM_ARRAY_TASK_ID";

/** The batch script of the job array. Its shell becomes the task's process, so that Slurm's signals reach that. */
export function batchScript(taskCommand: TaskCommand): string {
  const words = taskCommand(INDEX).map((word) => (word === INDEX ? `"${INDEX}"` : quote(word)));
  return `#!/bin/sh
# Trains one run of a sweep, the one whose index in the sweep is the task's index in the job array.
set -- ${words.join(" ")}
${hideOthersScript()}exec "$@"
`;
}

/** Indices as sbatch's `--array` has them: `0,3,5-7`. They come in any order. */
export function arraySpec(indices: readonly number[]): string {
  const ranges: [first: number, last: number][] = [];
  for (const index of indices.toSorted((a, b) => a - b)) {
    const range = ranges.at(-1);
    if (range !== undefined && index === range[1] + 1) range[1] = index;
    else ranges.push([index, index]);
  }
  return ranges.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(",");
}

/** Seconds before its time limit that a task is told to save and end. */
const SAVE_SECONDS = 60;

/** Options that the executor sets, with what its own work depends on. */
const OWNED = [
  "--array",
  "-a",
  "--job-name",
  "-J",
  "--parsable",
  "--output",
  "-o",
  "--error",
  "-e",
  "--open-mode",
  "--wrap",
];

/**
 * The options of sbatch for all jobs of a sweep. The user's may replace the GPU, signal and requeue options.
 *
 * @throws InputError where the user sets what the executor depends on
 */
export function sbatchOptions(files: SlurmFiles, jobName: string, userOptions: readonly string[]): string[] {
  const words = userOptions.flatMap(optionWords);
  const choosesGpu = words.some((option) => /^(--gres|--gpus|-G)/.test(option));
  return [
    ...(choosesGpu ? [] : ["--gres=gpu:1"]),
    // B: the batch shell itself, whose place the task has taken.
    `--signal=B:TERM@${SAVE_SECONDS}`,
    "--requeue",
    ...words,
    `--job-name=${jobName}`,
    "--open-mode=append",
    // In a file name of sbatch, % begins a field.
    `--output=${files.folder.replaceAll("%", "%%")}/%a.log`,
  ];
}

/** An option of the user's as words of a command line: `--time 8:00:00` is two. @throws InputError */
function optionWords(option: string): string[] {
  const owned = OWNED.find((name) =>
    name.startsWith("--") ? option.split(/[=\s]/)[0] === name : option.startsWith(name),
  );
  if (owned !== undefined) {
    throw new InputError(`the sbatch option "${printable(option)}" cannot be given: the sweep sets ${owned} itself`);
  }
  // Anything else would be taken for the script.
  if (!/^--?[a-zA-Z]/.test(option)) {
    throw new InputError(`an sbatch option must begin with - as in --partition=gpu, got "${printable(option)}"`);
  }
  const [, name, value] = /^(-[\w-]+)\s+(.+)$/s.exec(option) ?? [];
  return name === undefined ? [option] : [name, value!];
}

/** Largest record that is read: ten thousands of jobs. */
const MAX_RECORD_BYTES = 2 ** 22;

/** The record of a sweep's jobs, made anew where there is none. @throws InputError where it is not one */
export async function openRecord(files: SlurmFiles, sweepFolder: string, sweepId: string): Promise<SlurmRecord> {
  await makeFolder(files.folder);
  let text: string;
  try {
    text = await readTextFile(files.record, MAX_RECORD_BYTES);
  } catch (error) {
    const { cause } = error as { cause?: NodeJS.ErrnoException };
    if (cause?.code !== "ENOENT") throw error;
    return createRecord(files, sweepFolder, sweepId);
  }
  return parseRecord(files.record, text);
}

/** Before anything is submitted, so that a job can be found again whenever this process is killed. */
export async function createRecord(files: SlurmFiles, sweepFolder: string, sweepId: string): Promise<SlurmRecord> {
  const name = basename(sweepFolder)
    .replaceAll(/[^\w.-]/g, "_")
    .slice(0, 40);
  const jobName = `dpo-train-${name}-${randomBytes(6).toString("hex")}`;
  const record: SlurmRecord = { jobName, sweepId, isSubmitting: false, jobs: [] };
  await writeRecord(files, record);
  return record;
}

export async function writeRecord(files: SlurmFiles, record: SlurmRecord): Promise<void> {
  await writeFileAtomically(files.record, `${JSON.stringify(record, null, 2)}\n`);
}

function parseRecord(path: string, text: string): SlurmRecord {
  let record: Partial<SlurmRecord> | null;
  try {
    record = JSON.parse(text) as Partial<SlurmRecord> | null;
  } catch (cause) {
    throw fileError(path, "read as JSON", cause);
  }
  if (
    typeof record?.jobName !== "string" ||
    !/^dpo-train-[\w.-]+$/.test(record.jobName) ||
    typeof record.sweepId !== "string" ||
    !Array.isArray(record.jobs)
  ) {
    throw new InputError(
      `${printable(path)}: must hold jobName, sweepId and jobs as dpo-train wrote them: see with squeue that none of the sweep's jobs ` +
        "is in the queue, and delete the file",
    );
  }
  const { jobName, sweepId, jobs } = record;
  return { jobName, sweepId, isSubmitting: record.isSubmitting === true, jobs };
}
