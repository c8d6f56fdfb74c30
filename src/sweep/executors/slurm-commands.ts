import { execFile } from "node:child_process";
import { InputError } from "../../errors.ts";
import { printable } from "../../text.ts";

/** A task of a job array, as `squeue` shows it. */
export interface QueueEntry {
  readonly jobId: number;
  /** The run's index in the sweep. */
  readonly index: number;
  /** Slurm's name of it: RUNNING, PENDING, NODE_FAIL, ... */
  readonly state: string;
  readonly node: string;
  /** Why it waits. */
  readonly reason: string;
}

/** States in which a task has left the queue for good. In every other one, known or not, it is taken to be at work. */
const LEFT = new Set([
  "BOOT_FAIL",
  "CANCELLED",
  "COMPLETED",
  "DEADLINE",
  "FAILED",
  "NODE_FAIL",
  "OUT_OF_MEMORY",
  "PREEMPTED",
  "REVOKED",
  "TIMEOUT",
]);

export function isInQueue({ state }: QueueEntry): boolean {
  return !LEFT.has(state);
}

/** A command of Slurm that did not do what it was asked for. */
export class SlurmError extends InputError {
  /** Slurm's controller did not answer: it may do so later, and may have done what it was asked for. */
  readonly isTemporary: boolean;

  constructor(command: string, output: string) {
    super(`${command} ${output === "" ? "failed and says nothing" : `says: ${printable(output, 600)}`}`);
    this.isTemporary = TEMPORARY.test(output);
  }
}

/** What Slurm's commands say when their controller is away, restarts or is overloaded. */
const TEMPORARY =
  /unable to contact slurm controller|connection (refused|timed out|reset)|socket timed out|timed out|temporarily|communication|backup|standby|no route|zero bytes|try again|unexpected msg/i;

/** A command that hangs is taken for a controller that does not answer. Slurm's own patience is 10 s by default. */
const COMMAND_TIMEOUT_MS = 120_000;
/** Of a queue's listing: about 100 bytes for each of our tasks. */
const MAX_OUTPUT_BYTES = 64 * 2 ** 20;

/**
 * The tasks of all job arrays of a name: those in the queue, and those that left it a short while ago (MinJobAge, by
 * default 5 minutes). As text, not `--json`: that lists the whole cluster's jobs whatever is asked for (22.05), and its
 * form differs from one version to the next.
 *
 * @throws SlurmError
 */
export async function listQueue(jobName: string, signal: AbortSignal): Promise<QueueEntry[]> {
  const options = ["--noheader", "--array", "--states=all", `--name=${jobName}`, "--format=%F|%K|%T|%N|%r"];
  const entries: QueueEntry[] = [];
  for (const line of (await runSlurm("squeue", options, signal)).split("\n")) {
    // Sites let the command print lines of their own.
    const [, jobId, index, state, node, reason] = /^(\d+)\|(\d+)\|([A-Z_]+)\|([^|]*)\|(.*)$/.exec(line.trim()) ?? [];
    if (jobId === undefined) continue;
    entries.push({ jobId: Number(jobId), index: Number(index), state: state!, node: node!, reason: reason! });
  }
  return entries;
}

/** Submits a batch script. Returns the job's id. @throws SlurmError */
export async function submit(options: readonly string[], script: string): Promise<number> {
  const output = await runSlurm("sbatch", [...options, "--parsable", script]);
  // `--parsable` prints `ID` or `ID;CLUSTER`. Sites put a greeting or a bill before it.
  const ids = output.split("\n").flatMap((line) => /^(\d+)(;\S+)?$/.exec(line.trim())?.[1] ?? []);
  const last = ids.at(-1);
  if (last !== undefined) return Number(last);
  throw new InputError(
    `sbatch must print the job's id with --parsable, but printed "${printable(output.trim())}": see with squeue whether it ` +
      "took the job; started again, this command follows the job or submits it",
  );
}

function runSlurm(command: "sbatch" | "squeue", args: readonly string[], signal?: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { timeout: COMMAND_TIMEOUT_MS, maxBuffer: MAX_OUTPUT_BYTES, env: slurmEnvironment(), signal };
    execFile(command, args, options, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      if (error.code === "ENOENT") return reject(missing(command));
      const said = stderr.trim() || stdout.trim();
      reject(new SlurmError(command, error.killed ? `${said} (timed out after ${COMMAND_TIMEOUT_MS / 1000} s)` : said));
    });
  });
}

/** The user's environment, without what would change the form of the output. */
function slurmEnvironment(): NodeJS.ProcessEnv {
  const { SQUEUE_FORMAT, SQUEUE_FORMAT2, SQUEUE_STATES, SQUEUE_NAMES, SQUEUE_ARRAY, ...environment } = process.env;
  return environment;
}

function missing(command: string): InputError {
  return new InputError(
    `${command} was not found: --executor slurm must be started on a login node of a Slurm cluster; ` +
      "--executor local --gpus N trains on this machine's GPUs",
  );
}
