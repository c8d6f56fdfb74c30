import { InputError } from "../../errors.ts";
import { writeFileAtomically } from "../../weights/atomic-file.ts";
import { isEnd } from "../results.ts";
import { type ExecutorOptions, pause, RetryCount, type SweepTask, type UnfinishedRun } from "./executor.ts";
import { quote } from "./shell.ts";
import { isInQueue, listQueue, type QueueEntry, SlurmError, submit } from "./slurm-commands.ts";
import {
  arraySpec,
  batchScript,
  createRecord,
  logFile,
  openRecord,
  type SlurmFiles,
  type SlurmRecord,
  sbatchOptions,
  slurmFiles,
  writeRecord,
} from "./slurm-job.ts";
import { lossOf, queueSummary } from "./slurm-text.ts";
import { logEnd } from "./task-log.ts";

export interface SlurmOptions extends ExecutorOptions {
  /** Another one for every form that the sweep takes: of jobs of another form the indices mean other runs. */
  readonly sweepId: string;
  /** Most tasks at work at once; null: as many as Slurm starts. */
  readonly throttle: number | null;
  /** Options of sbatch, each one string: `--partition=gpu`, `--time=8:00:00`, another `--gres` than `gpu:1`. */
  readonly sbatchOptions: readonly string[];
  readonly pollIntervalMs?: number;
}

/** What clusters ask of those who watch their queue. */
const POLL_INTERVAL_MS = 30_000;

/** Looks at the queue between a submission of which it is not known whether it was taken, and the next one. */
const LOOKS_AFTER_UNKNOWN = 2;

/** Why a log may be empty. */
const NOT_SHARED = ": is the folder shared with the machines that train?";

/** A run, and where its task is. */
interface Tracked {
  readonly task: SweepTask;
  /** `waiting` to be submitted; `queued` as squeue last showed it; or settled, one way or the other. */
  place: "waiting" | "queued" | "ended" | "given up";
  /** The newest that squeue has shown of it. */
  entry: QueueEntry | null;
  /** It was out of the queue at the last look, and its folder did not say that it is at its end. */
  isMissing: boolean;
}

interface Follower {
  readonly options: SlurmOptions;
  readonly files: SlurmFiles;
  readonly sbatchOptions: readonly string[];
  readonly retries: RetryCount;
  readonly tracked: readonly Tracked[];
  readonly unfinished: UnfinishedRun[];
  record: SlurmRecord;
  /** What Slurm last complained of, so that it is told once; null while it answers. */
  trouble: string | null;
  /** Looks at the queue to wait for before the next submission. */
  looksToWait: number;
}

/**
 * Trains the runs as tasks of a Slurm job array, and follows them to their end. A task that leaves the queue before its run
 * is at its end is submitted again; one that was cancelled is not. Jobs of this sweep that are in the queue already are
 * followed, not submitted twice. Aborted, it leaves the jobs at work.
 *
 * @returns the runs that were given up
 * @throws InputError where Slurm is missing or refuses the jobs; the signal's reason
 */
export async function runOnSlurm(options: SlurmOptions): Promise<readonly UnfinishedRun[]> {
  const files = slurmFiles(options.sweepFolder);
  const record = await recordOfThisForm(files, options);
  const follower: Follower = {
    options,
    files,
    record,
    sbatchOptions: sbatchOptions(files, record.jobName, options.sbatchOptions),
    retries: new RetryCount(options.retries, options.stepsOf),
    tracked: options.tasks.map((task) => ({ task, place: "waiting", entry: null, isMissing: false })),
    unfinished: [],
    trouble: null,
    looksToWait: record.isSubmitting ? LOOKS_AFTER_UNKNOWN : 0,
  };
  await writeFileAtomically(files.script, batchScript(options.taskCommand));
  try {
    await follow(follower);
  } catch (error) {
    if (options.signal.aborted) options.terminal.line(howToGoOn(record.jobName));
    throw error;
  }
  return follower.unfinished;
}

/** @throws InputError where jobs of another form of the sweep are still in the queue */
async function recordOfThisForm(
  files: SlurmFiles,
  { sweepFolder, sweepId, signal }: SlurmOptions,
): Promise<SlurmRecord> {
  const record = await openRecord(files, sweepFolder, sweepId);
  if (record.sweepId === sweepId) return record;
  const { length } = (await listQueue(record.jobName, signal)).filter(isInQueue);
  if (length === 0 && !record.isSubmitting) return createRecord(files, sweepFolder, sweepId);
  throw new InputError(
    `the sweep has other runs now than when its jobs were submitted, and ${length} of their tasks may still be in the queue: ` +
      `let them end, or end them with scancel --name=${quote(record.jobName)}`,
  );
}

function howToGoOn(jobName: string): string {
  return (
    "the jobs stay in Slurm's queue: the same command follows them again, and " +
    `scancel --name=${quote(jobName)} ends them, each with a checkpoint`
  );
}

async function follow(follower: Follower): Promise<void> {
  const { options, tracked } = follower;
  let isFirst = true;
  for (;;) {
    const entries = await look(follower, isFirst);
    if (entries !== null) {
      if (isFirst) tellFound(follower, entries);
      isFirst = false;
      let changed = false;
      for (const one of tracked) changed = (await settle(follower, one, entries)) || changed;
      changed = (await submitWaiting(follower, entries)) || changed;
      if (changed) await options.onChange();
      options.terminal.status(queueSummary(tracked));
    }
    if (tracked.every(({ place }) => place === "ended" || place === "given up")) return;
    await pause(options.pollIntervalMs ?? POLL_INTERVAL_MS, options.signal);
  }
}

/** The queue; null while Slurm does not answer. The first answer must not be a refusal. */
async function look(follower: Follower, isFirst: boolean): Promise<QueueEntry[] | null> {
  try {
    const entries = await listQueue(follower.record.jobName, follower.options.signal);
    if (follower.trouble !== null) follower.options.terminal.line("Slurm answers again");
    follower.trouble = null;
    return entries;
  } catch (error) {
    follower.options.signal.throwIfAborted();
    if (!(error instanceof SlurmError) || (isFirst && !error.isTemporary)) throw error;
    tellTrouble(follower, error.message);
    return null;
  }
}

function tellTrouble(follower: Follower, message: string): void {
  const line = `${message}; waiting, jobs that are in the queue go on`;
  if (follower.trouble === null) follower.options.terminal.line(line);
  follower.trouble = message;
}

function tellFound({ record, options }: Follower, entries: readonly QueueEntry[]): void {
  const found = entries.filter(isInQueue);
  if (found.length === 0) return;
  const jobs = [...new Set(found.map(({ jobId }) => jobId))].join(", ");
  const tasks = found.length === 1 ? "1 task" : `${found.length} tasks`;
  options.terminal.line(`following ${tasks} that are in the queue already (job ${jobs}, named ${record.jobName})`);
}

/** Brings a run up to what the queue and its folder say. Returns whether anything changed. */
async function settle(follower: Follower, tracked: Tracked, entries: readonly QueueEntry[]): Promise<boolean> {
  const { options, files } = follower;
  const { task } = tracked;
  if (tracked.place === "ended" || tracked.place === "given up") return false;
  const own = entries.filter(({ index }) => index === task.index).toSorted((a, b) => b.jobId - a.jobId);
  const inQueue = own.find(isInQueue);
  if (inQueue !== undefined) return enterQueue(follower, tracked, inQueue);

  const status = await options.statusOf(task);
  if (isEnd(status)) {
    tracked.place = "ended";
    const log = status === "failed" ? await logEnd(logFile(files, task.index), NOT_SHARED) : "";
    options.terminal.line(`${task.name}: ${status}${log}`);
    return true;
  }
  if (tracked.place === "waiting") return false;
  const left = own.find(({ jobId }) => jobId >= (tracked.entry?.jobId ?? 0));
  if (left !== undefined) tracked.entry = left;
  // Files written on another machine may show up a little later, so the next look decides.
  if (tracked.isMissing) await lose(follower, tracked);
  else tracked.isMissing = true;
  return true;
}

function enterQueue({ options }: Follower, tracked: Tracked, entry: QueueEntry): boolean {
  const { place, entry: before } = tracked;
  Object.assign(tracked, { place: "queued", entry, isMissing: false } satisfies Partial<Tracked>);
  const isSame = place === "queued" && before?.state === entry.state && before.jobId === entry.jobId;
  if (entry.state === "RUNNING" && !isSame) options.terminal.line(`${tracked.task.name}: running on ${entry.node}`);
  if (isHeld(entry) && !(isSame && before.reason === entry.reason)) {
    const remedy = `scontrol release ${entry.jobId}_${entry.index} lets it go on`;
    options.terminal.line(`${tracked.task.name}: held by Slurm (${entry.reason}): ${remedy}`);
  }
  return !isSame;
}

function isHeld({ state, reason }: QueueEntry): boolean {
  return state === "REQUEUE_HOLD" || /held/i.test(reason);
}

/** A task is out of the queue, and its run is not at its end. */
async function lose(follower: Follower, tracked: Tracked): Promise<void> {
  const { options, retries, files, unfinished } = follower;
  const { task } = tracked;
  const state = tracked.entry?.state ?? "";
  const wasCancelled = state === "CANCELLED";
  const { times, mayRetry } = wasCancelled ? { times: 0, mayRetry: false } : await retries.count(task);
  const loss = lossOf(tracked.entry);
  if (mayRetry) {
    tracked.place = "waiting";
    options.terminal.line(`${task.name}: ${loss.what}; submitting it again (${times} of ${options.retries})`);
    return;
  }
  tracked.place = "given up";
  const often = wasCancelled ? "" : `, ${times === 1 ? "once" : `${times} times`} without getting further`;
  const reason = `${loss.what}${often}: ${loss.remedy}${await logEnd(logFile(files, task.index), NOT_SHARED)}`;
  unfinished.push({ task, reason });
  options.terminal.line(`${task.name}: given up: ${reason}`);
}

/** Submits what waits, within the throttle. Returns whether a job was submitted. */
async function submitWaiting(follower: Follower, entries: readonly QueueEntry[]): Promise<boolean> {
  const { options } = follower;
  if (follower.looksToWait > 0) {
    follower.looksToWait--;
    return false;
  }
  const waiting = follower.tracked.filter(({ place }) => place === "waiting");
  const inQueue = entries.filter(isInQueue).length;
  // A throttle holds within one job array. Beside another, a new one gets only what that cannot use any more.
  const throttle = options.throttle ?? Number.POSITIVE_INFINITY;
  const chosen = inQueue === 0 ? waiting : waiting.slice(0, Math.max(0, throttle - inQueue));
  if (chosen.length === 0) return false;
  const tasks = arraySpec(chosen.map(({ task }) => task.index));
  const array = options.throttle === null ? tasks : `${tasks}%${options.throttle}`;
  try {
    await keep(follower, { isSubmitting: true });
    options.signal.throwIfAborted();
    const id = await submit([...follower.sbatchOptions, `--array=${array}`], follower.files.script);
    for (const one of chosen) enterSubmitted(one, id);
    options.terminal.line(`submitted job array ${id} (${array}), named ${follower.record.jobName}`);
    const job = { id, tasks: array, submitted: new Date().toISOString() };
    await keep(follower, { isSubmitting: false, jobs: [...follower.record.jobs, job] });
    return true;
  } catch (error) {
    options.signal.throwIfAborted();
    if (!(error instanceof SlurmError)) throw error;
    if (!error.isTemporary) await keep(follower, { isSubmitting: false });
    if (!error.isTemporary && inQueue === 0) throw error;
    tellTrouble(follower, error.message);
    follower.looksToWait = LOOKS_AFTER_UNKNOWN;
    return false;
  }
}

async function keep(follower: Follower, changes: Partial<SlurmRecord>): Promise<void> {
  follower.record = { ...follower.record, ...changes };
  await writeRecord(follower.files, follower.record);
}

function enterSubmitted(tracked: Tracked, jobId: number): void {
  const entry = { jobId, index: tracked.task.index, state: "PENDING", node: "", reason: "" };
  Object.assign(tracked, { place: "queued", entry, isMissing: false } satisfies Partial<Tracked>);
}
