import { dirname } from "node:path";
import { dumpConfig } from "../config/dump.ts";
import type { Config } from "../config/schema.ts";
import { ExpectedError, OutOfMemoryError } from "../errors.ts";
import { resolveModel } from "../hub/resolve.ts";
import { createLoraGradients, uploadAdapter } from "../model/lora.ts";
import { PairModel } from "../model/pair-model.ts";
import { type DeviceChoice, type OpenedDevice, openDevice } from "../platform/dawn.ts";
import type { DeviceProfile } from "../platform/toggles.ts";
import type { Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { openModelFolder } from "../weights/model-folder.ts";
import { readPeftAdapter } from "../weights/peft-adapter.ts";
import { findCheckpoint, type ResumeChoice, type Resumed } from "./checkpoint/find-checkpoint.ts";
import { listCheckpoints } from "./checkpoint/folders.ts";
import {
  factsOfBase,
  factsOfConfig,
  factsOfDevice,
  factsOfReference,
  requireSameFacts,
} from "./checkpoint/identity.ts";
import { readMetricsCopy, restoreOptimizer } from "./checkpoint/read-checkpoint.ts";
import { createSaver, referenceFile } from "./checkpoint/saver.ts";
import type { ChosenBatch } from "./choose-batch.ts";
import { baseModelOf, exportResults } from "./export-results.ts";
import { type LoadSettings, loadModel } from "./load-model.ts";
import { trainLoop } from "./loop.ts";
import { describeWeights } from "./non-finite.ts";
import type { ReferenceLogps } from "./objective.ts";
import { createOptimizer } from "./optimizer.ts";
import { withAdvice } from "./out-of-memory.ts";
import { planBatch } from "./plan-batch.ts";
import { choosePrecision, type PrecisionChoice } from "./precision.ts";
import { type PreparedData, readData } from "./prepare-data.ts";
import { longestSequence, type PreparedRun, prepareRun, reportPreflight } from "./prepare-run.ts";
import { formatDuration, formatShare } from "./progress.ts";
import { writeReferenceCache } from "./reference-cache.ts";
import { obtainReference, type RunReference, readKeptReference } from "./reference-source.ts";
import { RunFolder } from "./run-folder.ts";
import { describeRun, type RunFacts } from "./run-record.ts";
import { createRunReporter } from "./run-reporter.ts";
import { answerSample, reportSample } from "./sample.ts";
import { objectiveOf, optimizerSettingsOf } from "./settings.ts";
import type { TrainingPair } from "./step.ts";
import { createStepProfiler, reportProfile, type StepProfiler } from "./step-profiler.ts";
import { tuneDevice } from "./tune-device.ts";
import { planEvents } from "./when.ts";

export interface RunRequest {
  readonly config: Config;
  readonly device: DeviceChoice;
  readonly profile: DeviceProfile;
  readonly precision: PrecisionChoice;
  /** Keep the weights on disk as they lie on the GPU, and use what an earlier run has kept. */
  readonly weightsCache?: boolean;
  /** Bytes that the run may take on the GPU; null to ask the driver. */
  readonly deviceMemory?: number | null;
  /** Time the GPU's work in a few steps. */
  readonly profileSteps?: boolean;
  /** The checkpoint to continue from, true for the newest that is whole; undefined to begin. */
  readonly resume?: ResumeChoice;
  /** Stop after the preflight: nothing is computed or written. */
  readonly dryRun: boolean;
}

/** Of a run that nobody stops. */
const NEVER = new AbortController().signal;

/**
 * A whole run: model and data in, output folder out. Whatever can be refused is refused before the device is opened, the
 * data's rows before the model is fetched, and nothing is written before the reference is known.
 *
 * @param signal aborted with an ExpectedError: the step at hand is the last
 * @throws ExpectedError whose exit code says what kind of thing went wrong
 */
export async function run(
  {
    config,
    device,
    profile,
    precision,
    weightsCache = false,
    deviceMemory = null,
    profileSteps = false,
    resume,
    dryRun,
  }: RunRequest,
  terminal: Terminal,
  signal: AbortSignal = NEVER,
): Promise<void> {
  const resumed = await findCheckpoint(config.output_dir, resume, terminal);
  const rows = await readData(config);
  const model = await resolveModel(config.model, {
    signal,
    onNotice: terminal.line,
    onProgress: ({ doneBytes, totalBytes }) =>
      terminal.status(`fetching the model: ${formatShare(doneBytes, totalBytes)}`),
  });
  const folder = await openModelFolder(model.folder);
  try {
    const prepared = await prepareRun(config, rows, model, folder);
    reportPreflight(prepared, terminal);
    if (resumed) {
      requireSameFacts(resumed.state.identity, factsOfConfig(prepared), resumed.path);
      if (resumed.isDone) return terminal.line(`--resume: ${printable(config.output_dir, 1000)} is done already`);
      terminal.line(`continuing after step ${resumed.state.loop.step}: ${printable(resumed.path, 1000)}`);
    }
    if (dryRun) return;
    const opened = await openDevice({ device, profile, memoryLimitBytes: deviceMemory });
    try {
      if (opened.notice) terminal.line(opened.notice);
      const profiler = profileSteps ? createStepProfiler(opened, prepared.length.totalSteps) : null;
      const loading = { precision: choosePrecision(precision, opened), weightsCache, in4Bit: config.load_in_4bit };
      if (resumed) {
        requireSameFacts(resumed.state.identity, factsOfDevice(opened, loading.precision), resumed.path);
      }
      const planned = resumed ? withBatch(prepared, resumed.state.maxTokensPerBatch) : prepared;
      const chosen = await planBatch(planned, opened, loading.precision, deviceMemory);
      try {
        await trainAndExport(prepared, opened, { ...loading, chosen, profiler, resumed }, terminal, signal);
      } catch (error) {
        throw withAdvice(error, chosen);
      }
    } finally {
      opened.close();
    }
  } finally {
    await folder.close();
  }
}

interface DeviceSettings {
  readonly chosen: ChosenBatch;
  readonly profiler: StepProfiler | null;
  readonly resumed: Resumed | null;
}

/** The run with the GPU batches that it began with: others would round differently. */
function withBatch(prepared: PreparedRun, maxTokens: number): PreparedRun {
  return { ...prepared, config: { ...prepared.config, max_tokens_per_batch: maxTokens } };
}

async function trainAndExport(
  prepared: PreparedRun,
  opened: OpenedDevice,
  { chosen, profiler, resumed, ...loading }: LoadSettings & DeviceSettings,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const { config, folder, data, start, length, question, tokenizer } = prepared;
  const { gpu } = opened;
  const startMs = performance.now();
  const timings: Record<string, number> = { ...resumed?.state.timings };
  const objective = objectiveOf(config);
  const { maxTokens, stored } = chosen.choice;
  if (chosen.isMemoryKnown) for (const reason of chosen.reasons) terminal.line(`plan: ${reason}`);
  if (resumed) {
    for (const [name, variant] of Object.entries(resumed.state.decisions)) gpu.decisions.decide(name, variant);
  } else if (loading.precision === "f16") {
    await timed(timings, "tune_s", () => tuneDevice(opened, chosen.simulation.decisions, terminal, signal));
  }

  const base = await loadModel(gpu, folder, loading, timings, terminal, signal);
  if (resumed) requireSameFacts(resumed.state.identity, factsOfBase(base), resumed.path);
  const weights = resumed ? await readPeftAdapter(resumed.path, folder.config) : start.adapter;
  const adapter = uploadAdapter(gpu, folder.config, weights);
  const gradients = createLoraGradients(gpu, folder.config, adapter.settings);
  const model = new PairModel({
    gpu,
    weights: base.weights,
    adapter,
    gradients,
    maxTokens,
    stored,
    maxPositions: longestSequence(data),
    divergence: config.eval_kl,
  });
  const optimizer = createOptimizer(gpu, adapter.layers, gradients, optimizerSettingsOf(config));
  if (resumed) await restoreOptimizer(gpu, adapter.layers, optimizer, resumed.path);
  terminal.status(`compiling ${gpu.pipelines.count} kernels`);
  await timed(timings, "compile_s", () => gpu.pipelines.ready());
  terminal.line(
    `${opened.adapter.name}: ${base.precision} matmuls, model and buffers take ${(gpu.memory.liveBytes / 1e9).toFixed(2)} GB, with up to ${maxTokens} tokens in a GPU batch`,
  );

  const reference = await timed(timings, "reference_s", () =>
    resumed
      ? obtainSameReference(resumed, prepared, base, opened, model, terminal, signal)
      : obtainReference(prepared, base, opened, model, terminal, signal),
  );
  const answer = async (when: "before" | "after"): Promise<string> => {
    if (!question) return "";
    const sample = await answerSample(gpu, base.weights, adapter, tokenizer, question, signal);
    reportSample(when, question, sample, terminal);
    return sample.text;
  };
  const before = resumed ? resumed.state.answerBefore : await answer("before");

  const records = resumed ? await readMetricsCopy(resumed.path) : "";
  const output = await RunFolder.create(config.output_dir, dumpConfig(config), records);
  const resumedFrom = resumed?.state.loop.step ?? null;
  const facts: RunFacts = { ...prepared, opened, base, chosen, referenceFrom: reference.from, resumedFrom, timings };
  const reporter = createRunReporter(output, length.totalSteps, terminal, resumed?.state.progress);
  const identity = {
    ...factsOfConfig(prepared),
    ...factsOfDevice(opened, loading.precision),
    ...factsOfBase(base),
    ...factsOfReference([...reference.train, ...reference.evaluation]),
  };
  const trainStartMs = performance.now();
  const saver = createSaver({
    gpu,
    adapter,
    optimizer,
    target: {
      folder: output.checkpoints,
      metricsFile: output.metricsFile,
      model: folder.config,
      baseModel: baseModelOf(prepared),
      keep: config.save_total_limit,
    },
    byTime: config.save_steps === undefined,
    prepare: () =>
      writeReferenceCache(referenceFile(output.checkpoints), [...reference.train, ...reference.evaluation]),
    stateOf: (loop) => ({
      format: 1,
      loop,
      progress: reporter.progress(),
      timings: { ...timings, train_s: secondsSince(trainStartMs) + (timings.train_s ?? 0) },
      identity,
      maxTokensPerBatch: maxTokens,
      decisions: Object.fromEntries(gpu.decisions.used),
      answerBefore: before,
    }),
  });
  try {
    await output.describe(describeRun(facts, null));
    await timed(timings, "train_s", () =>
      trainLoop({
        model,
        optimizer,
        pairs: withReference(data.train, reference.train),
        evalPairs: withReference(data.evaluation, reference.evaluation),
        evaluation: { perDeviceEvalBatchSize: config.per_device_eval_batch_size, evalKl: config.eval_kl },
        objective,
        order: prepared.order,
        schedule: prepared.schedule,
        events: planEvents(
          {
            loggingSteps: config.logging_steps,
            evalStrategy: config.eval_strategy,
            evalSteps: config.eval_steps,
            saveSteps: config.save_steps,
          },
          length,
        ),
        startsAtReference: start.isZero,
        onStepStart: profiler?.onStepStart,
        onStep: (report) => {
          gpu.watchdog.endGrace();
          reporter.onStep(report);
        },
        resumed: resumed?.state.loop,
        saver,
        describeWeights: () => describeWeights(gpu, adapter),
        onRecord: reporter.onRecord,
        signal,
      }),
    );
    if (profiler) await reportProfile(profiler, output, terminal);
    const exported = await timed(timings, "export_s", () => exportResults(prepared, gpu, adapter, terminal, signal));
    const after = await answer("after");
    const samples = question && { before, after };
    await output.describe(describeRun(facts, { ...exported, progress: reporter.progress(), samples }));
    terminal.line(`done in ${formatDuration(performance.now() - startMs)}: ${printable(output.path, 1000)}`);
  } catch (error) {
    const { steps } = reporter.progress();
    if (error instanceof OutOfMemoryError && steps === 0) {
      await output.discard();
      throw error;
    }
    const done = `after step ${steps} of ${length.totalSteps}`;
    const ending =
      error === signal.reason
        ? new ExpectedError(`interrupted ${done}; ${await whatIsLeft(output)}`, signal.reason.exitCode)
        : error instanceof OutOfMemoryError
          ? withAdvice(error, chosen, `it ended ${done}; ${await whatIsLeft(output)}`)
          : await withLastCheckpoint(error, output);
    await output.describeEnd(describeRun(facts, null), steps, ending);
    throw ending;
  } finally {
    await output.close();
  }
}

/** What a run leaves that has ended early, and what can be done with it. */
async function whatIsLeft(output: RunFolder): Promise<string> {
  const names = await output.list();
  const [last] = await listCheckpoints(output.checkpoints);
  const use = last
    ? `the same command with --resume continues after step ${last.step}`
    : "no step was saved, and the same command with --resume begins anew";
  return `${printable(output.path, 1000)} holds ${names.join(", ")}: ${use}`;
}

/** Says with an error that the run had to stop for where it can go on. */
async function withLastCheckpoint(error: unknown, output: RunFolder): Promise<unknown> {
  if (!(error instanceof ExpectedError)) return error;
  const [last] = await listCheckpoints(output.checkpoints).catch(() => []);
  if (!last) return error;
  const text = `${error.message}; the last checkpoint is ${printable(last.path, 1000)}, from which --resume continues`;
  return new ExpectedError(text, error.exitCode, { cause: error });
}

/** The reference that a run began with: kept beside its checkpoints, or made anew, and then the same to the last bit. */
async function obtainSameReference(
  { path, state }: Resumed,
  ...[prepared, base, opened, model, terminal, signal]: Parameters<typeof obtainReference>
): Promise<RunReference> {
  const { train, evaluation } = prepared.data;
  const file = referenceFile(dirname(path));
  const kept = await readKeptReference(file, [...train, ...evaluation], terminal);
  const reference: RunReference = kept
    ? { train: kept.slice(0, train.length), evaluation: kept.slice(train.length), from: "cache" }
    : await obtainReference(prepared, base, opened, model, terminal, signal);
  requireSameFacts(state.identity, factsOfReference([...reference.train, ...reference.evaluation]), path);
  return reference;
}

function withReference(pairs: PreparedData["train"], references: readonly ReferenceLogps[]): TrainingPair[] {
  return pairs.map(({ promptIds, chosenIds, rejectedIds, source }, i) => ({
    promptIds,
    chosenIds,
    rejectedIds,
    reference: references[i]!,
    place: `${printable(source.file)}:${source.line}`,
  }));
}

/** Runs a phase of the run and adds how long it took, in seconds. */
async function timed<T>(timings: Record<string, number>, name: string, phase: () => Promise<T>): Promise<T> {
  const startMs = performance.now();
  const result = await phase();
  timings[name] = (timings[name] ?? 0) + secondsSince(startMs);
  return result;
}

function secondsSince(startMs: number): number {
  return Math.round(performance.now() - startMs) / 1000;
}
