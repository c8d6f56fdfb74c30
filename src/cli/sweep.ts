import path from "node:path";
import { type Command, Option } from "commander";
import type { Config } from "../config/schema.ts";
import { loadSweep, type Sweep, type SweepRun } from "../config/sweep.ts";
import { DeviceError, ExpectedError, InputError, NonFiniteError } from "../errors.ts";
import { incomparableSettings } from "../report/loss-scale.ts";
import { renderSweepPage } from "../report/sweep-page.ts";
import { checkSweep, type OpenRun } from "../sweep/check-sweep.ts";
import { quote } from "../sweep/executors/shell.ts";
import { mergeBest } from "../sweep/merge-best.ts";
import { bestRun, readResults } from "../sweep/read-results.ts";
import { isEnd, type RunStatus, type SweepResults } from "../sweep/results.ts";
import { readState } from "../sweep/run-files.ts";
import { formatTable, resultsJson } from "../sweep/table.ts";
import { type FailedRun, trainSweep } from "../sweep/train-sweep.ts";
import { createTerminal, type Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { withFolderLock } from "../train/folder-lock.ts";
import { Inputs } from "../train/inputs.ts";
import type { SessionRequest } from "../train/session.ts";
import { writeFileAtomically } from "../weights/atomic-file.ts";
import { sessionRequest } from "./device-options.ts";
import { type LiveOption, withLive } from "./live.ts";
import { collect } from "./option-values.ts";
import { checkPush, pushCommand, pushSettings, pushWhenDone } from "./push-run.ts";
import { runCommand } from "./run-command.ts";
import { reportRun } from "./run-report.ts";
import { trackSweep } from "./run-tracking.ts";
import { checkExecutor, EXECUTORS, type ExecutorChoice, runElsewhere } from "./sweep-executors.ts";

interface SweepOptions extends ExecutorChoice {
  readonly config: string;
  readonly set?: readonly string[];
  readonly only?: string;
  readonly stopWorse?: "median";
  readonly live?: LiveOption;
  readonly dryRun?: boolean;
}

/** What is said of runs that did not come to their end. */
const END_WORDS: Partial<Record<RunStatus, string>> = { stopped: "was stopped", pending: "could not begin" };
const INTERRUPTED = "interrupted; the same command continues the sweep";

/** `dpo-train sweep --config FILE`: the runs that a config's `sweep:` describes. */
export function addSweepCommand(program: Command): void {
  program
    .command("sweep")
    .summary("train the runs that a config's sweep describes")
    .description(
      "train the runs that a config's `sweep:` describes, one after the other on one device, each into its own folder in output_dir; what is done already is not done again",
    )
    .requiredOption("--config <file>", "a training config with a `sweep:`")
    .option("--set <key=value>", "a setting in place of the config's; may be repeated", collect)
    .addOption(new Option("--stop-worse <rule>", "end runs that are worse than the others' median").choices(["median"]))
    .option("--live [port]", "show the runs in a browser while they train")
    .option("--only <run>", "train this run alone: its name, or its place in the list of --dry-run from 0")
    .option("--device <name>", "software, or part of a GPU's name", "auto")
    .option("--precision <path>", "f32, or f16 on tensor cores", "auto")
    .option("--weights-cache", "keep converted weights on disk for the next run")
    .option("--device-memory <size>", "what a run may take on the GPU, such as 24GB")
    .option("--safe", "keep all checks of the GPU layer on: slower")
    .option("--watch", "notice when the GPU's driver loses work in silence")
    .addOption(new Option("--executor <name>", "train each run in a process of its own").choices(EXECUTORS))
    .option("--gpus <count>", "local: GPUs of this machine to train on")
    .option("--throttle <count>", "slurm, kubernetes: most runs at once (default: all)")
    .option("--sbatch <option>", "slurm: an option of sbatch, such as --partition=gpu; may be repeated", collect)
    .option("--retries <count>", "how often a lost run is begun again without progress (default: 3)")
    .option("--image <name>", "kubernetes: an image with dpo-train in it")
    .option("--claim <name>", "kubernetes: the PersistentVolumeClaim that holds this folder")
    .option("--namespace <name>", "kubernetes: the Job's namespace")
    .option("--dry-run", "check every run, list them, and stop")
    .addOption(new Option("--resume", "what a sweep does in any case").hideHelp())
    .addHelpText(
      "after",
      `
Examples:
  dpo-train sweep --config sweep.yaml --dry-run
  dpo-train sweep --config configs/twin.yaml --set 'sweep={grid: {beta: [0.1, 0.3, 0.5]}}' --stop-worse median
  dpo-train sweep --config sweep.yaml --executor slurm --throttle 4 --sbatch=--partition=gpu
  dpo-train sweep --config sweep.yaml --executor local --gpus 8`,
    )
    .action((options: SweepOptions) => {
      const terminal = createTerminal();
      return runCommand({ terminal, whenInterrupted: INTERRUPTED }, async (signal) => {
        checkExecutor(options);
        const sweep = loadSweep(options.config, options.set);
        const request = sessionRequest(options);
        if (options.only === undefined) await runSweep(sweep, request, options, terminal, signal);
        else await runOne(sweep, options.only, request, options, terminal, signal);
      });
    });
}

async function runSweep(
  sweep: Sweep,
  session: SessionRequest,
  options: SweepOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const { stopWorse, dryRun = false } = options;
  requireEvaluations(sweep, stopWorse);
  trackSweep(sweep, terminal); // So that a key that is missing is found first.
  const models = new Set(sweep.runs.map(({ config }) => config.model));
  await checkPush(afterwards(sweep.runs[0]!), [...models], "the best run", terminal, signal);
  const inputs = new Inputs();
  const open = await checkSweep(sweep, inputs, terminal, signal);
  const left = open.length === sweep.runs.length ? "" : `, of which ${open.length} are left to do`;
  terminal.line(`a sweep of ${sweep.runs.length} runs${left}: ${printable(sweep.folder, 1000)}`);
  if (dryRun) {
    for (const [index, { name }] of sweep.runs.entries()) terminal.line(`  ${index}  ${printable(name)}`);
    return;
  }
  await withLive(options.live, { kind: "sweep", sweep }, terminal, () =>
    withFolderLock(sweep.folder, terminal, signal, (signal) =>
      trainAndReport(sweep, open, inputs, session, options, terminal, signal),
    ),
  );
}

async function trainAndReport(
  sweep: Sweep,
  open: readonly OpenRun[],
  inputs: Inputs,
  session: SessionRequest,
  options: SweepOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const { stopWorse, executor } = options;
  let failed: readonly FailedRun[] | null = [];
  const refresh = () => writeResults(sweep, failed ?? []);
  await refresh();
  try {
    if (open.length > 0 && executor === undefined) {
      const tracking = trackSweep(sweep, terminal);
      const onRunEnd = async (folder: string) => {
        await reportRun(folder, terminal);
        await refresh();
        await tracking.end(folder);
      };
      const hooks = { onRunStart: tracking.start, onRunPause: refresh, onRunEnd };
      const training = { session, stopWorse: stopWorse !== undefined, ...hooks };
      try {
        failed = await trainSweep(sweep, open, inputs, training, terminal, signal);
      } finally {
        await tracking.endAll();
      }
    } else if (open.length > 0) {
      failed = await trainElsewhere(sweep, open, options, refresh, terminal, signal);
    }
  } finally {
    await refresh();
  }
  if (failed === null) return;
  await reportResults(sweep, failed, executor === "slurm" ? null : session, terminal, signal);
  const [first] = failed;
  if (!first) return;
  throw new ExpectedError(
    `${failed.length} of ${sweep.runs.length} runs failed, and the others are at their end; ${printable(first.name)}: ${first.error.message}`,
    first.error.exitCode,
  );
}

/** Null where others are to begin the training. */
async function trainElsewhere(
  sweep: Sweep,
  open: readonly OpenRun[],
  choice: ExecutorChoice,
  onChange: () => Promise<void>,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<FailedRun[] | null> {
  const unfinished = await runElsewhere(sweep, open, choice, onChange, terminal, signal);
  if (unfinished === null) return null;
  const failed = unfinished.map(({ task, reason }): FailedRun => ({ name: task.name, error: new DeviceError(reason) }));
  for (const { run } of open) {
    const { status, reason } = await readState(run.config.output_dir);
    if (status === "failed") failed.push({ name: run.name, error: new NonFiniteError(reason ?? "not finite") });
  }
  return failed;
}

/** One run of a sweep in a process of its own. The table and the page are left to who started it. */
async function runOne(
  sweep: Sweep,
  only: string,
  session: SessionRequest,
  { stopWorse, live, dryRun = false }: SweepOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  requireEvaluations(sweep, stopWorse);
  const index = indexOf(sweep, only);
  const run = sweep.runs[index]!;
  const { status } = await readState(run.config.output_dir);
  if (isEnd(status)) return terminal.line(`${printable(run.name)} is ${status} already`);
  if (dryRun) return terminal.line(printable(run.name));
  const tracking = trackSweep(sweep, terminal);
  const onRunEnd = async (folder: string) => {
    await reportRun(folder, terminal);
    await tracking.end(folder);
  };
  const hooks = { onRunStart: tracking.start, onRunPause: onRunEnd, onRunEnd };
  const options = { session, stopWorse: stopWorse !== undefined, ...hooks };
  const [failed] = await withLive(live, { kind: "run", folder: run.config.output_dir }, terminal, () =>
    trainSweep(sweep, [{ run, index }], new Inputs(), options, terminal, signal),
  );
  if (failed) throw failed.error;
}

function indexOf({ runs }: Sweep, only: string): number {
  const index = /^\d+$/.test(only) ? Number(only) : runs.findIndex(({ name }) => name === only);
  if (runs[index]) return index;
  throw new InputError(
    `--only must be the name of a run, or its place from 0 to ${runs.length - 1}, got "${printable(only)}"; --dry-run lists the runs`,
  );
}

function requireEvaluations({ metric }: Sweep, stopWorse: SweepOptions["stopWorse"]): void {
  if (!stopWorse || metric.name.startsWith("eval_")) return;
  throw new InputError(
    "--stop-worse compares evaluations, and a run of this sweep has none: set eval_dataset or test_size, with eval_strategy steps or epoch",
  );
}

async function writeResults(sweep: Sweep, failed: readonly FailedRun[]): Promise<void> {
  const results = await resultsWith(sweep, failed);
  const json = `${JSON.stringify(resultsJson(results, bestRun(results)), null, 2)}\n`;
  await writeFileAtomically(path.join(sweep.folder, "sweep.json"), json);
  await writeFileAtomically(path.join(sweep.folder, "sweep.html"), renderSweepPage(results));
}

/** A run that could not begin has written nothing: why is known here alone. The next time it is tried again. */
async function resultsWith(sweep: Sweep, failed: readonly FailedRun[]): Promise<SweepResults> {
  const results = await readResults(sweep);
  const reasonOf = (name: string) => failed.find((run) => run.name === name)?.error.message ?? null;
  const runs = results.runs.map((run) => (run.status === "pending" ? { ...run, reason: reasonOf(run.name) } : run));
  return { ...results, runs };
}

/** @param session to merge the best run with; null where this machine is not one to do it on */
async function reportResults(
  sweep: Sweep,
  failed: readonly FailedRun[],
  session: SessionRequest | null,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const results = await resultsWith(sweep, failed);
  const best = bestRun(results);
  terminal.line("");
  for (const line of formatTable(results, best)) terminal.line(line);
  for (const { name, status, reason } of results.runs) {
    if (reason) terminal.line(`${printable(name)} ${END_WORDS[status] ?? "failed"}: ${reason}`);
  }
  const scales = incomparableSettings(results);
  if (scales.length > 0) {
    terminal.line(
      `note: losses of runs with different ${scales.join(" and ")} are not on one scale; sweep.metric: eval_rewards/accuracies compares the runs by what is`,
    );
  }
  const run = best && sweep.runs.find(({ name }) => name === best.name);
  if (run && session) await mergeBest(run, session, terminal, signal);
  else if (run?.export.merged_16bit) {
    const { model, output_dir: folder } = run.config;
    const shown = (word: string) => quote(printable(word, 1000));
    terminal.line(
      `to merge the best run: dpo-train merge --model ${shown(model)} --adapter ${shown(`${folder}/adapter`)} --output ${shown(`${folder}/merged`)}`,
    );
  }
  terminal.line(`results: ${printable(path.join(sweep.folder, "sweep.html"), 1000)}`);
  if (run && session) await pushWhenDone(afterwards(run), run.config.output_dir, terminal, signal);
  const push = run && !session && pushSettings(afterwards(run));
  if (push) terminal.line(`to push the best run: ${pushCommand(push, run.config.output_dir)}`);
}

/** What the config says of a run that is done, which holds for the best run alone. */
function afterwards({ export: merging, push }: SweepRun): Pick<Config, "export" | "push_to_hub"> {
  return { export: merging, push_to_hub: push };
}
