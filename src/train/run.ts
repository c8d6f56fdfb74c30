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
import type { ChosenBatch } from "./choose-batch.ts";
import { exportResults } from "./export-results.ts";
import { type LoadSettings, loadModel } from "./load-model.ts";
import { trainLoop } from "./loop.ts";
import type { ReferenceLogps } from "./objective.ts";
import { createOptimizer } from "./optimizer.ts";
import { withAdvice } from "./out-of-memory.ts";
import { planBatch } from "./plan-batch.ts";
import { choosePrecision, type PrecisionChoice } from "./precision.ts";
import { type PreparedData, readData } from "./prepare-data.ts";
import { longestSequence, type PreparedRun, prepareRun, reportPreflight } from "./prepare-run.ts";
import { formatDuration, formatShare } from "./progress.ts";
import { obtainReference } from "./reference-source.ts";
import { RunFolder, requireFreshFolder } from "./run-folder.ts";
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
    dryRun,
  }: RunRequest,
  terminal: Terminal,
  signal: AbortSignal = NEVER,
): Promise<void> {
  await requireFreshFolder(config.output_dir);
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
    if (dryRun) return;
    const opened = await openDevice({ device, profile, memoryLimitBytes: deviceMemory });
    try {
      if (opened.notice) terminal.line(opened.notice);
      const profiler = profileSteps ? createStepProfiler(opened, prepared.length.totalSteps) : null;
      const loading = { precision: choosePrecision(precision, opened), weightsCache, in4Bit: config.load_in_4bit };
      const chosen = await planBatch(prepared, opened, loading.precision, deviceMemory);
      try {
        await trainAndExport(prepared, opened, { ...loading, chosen, profiler }, terminal, signal);
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
}

async function trainAndExport(
  prepared: PreparedRun,
  opened: OpenedDevice,
  { chosen, profiler, ...loading }: LoadSettings & DeviceSettings,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const { config, folder, data, start, length, question, tokenizer } = prepared;
  const { gpu } = opened;
  const startMs = performance.now();
  const timings: Record<string, number> = {};
  const objective = objectiveOf(config);
  const { maxTokens, stored } = chosen.choice;
  if (chosen.isMemoryKnown) for (const reason of chosen.reasons) terminal.line(`plan: ${reason}`);
  if (loading.precision === "f16") {
    await timed(timings, "tune_s", () => tuneDevice(opened, chosen.simulation.decisions, terminal, signal));
  }

  const base = await loadModel(gpu, folder, loading, timings, terminal, signal);
  const adapter = uploadAdapter(gpu, folder.config, start.adapter);
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
  terminal.status(`compiling ${gpu.pipelines.count} kernels`);
  await timed(timings, "compile_s", () => gpu.pipelines.ready());
  terminal.line(
    `${opened.adapter.name}: ${base.precision} matmuls, model and buffers take ${(gpu.memory.liveBytes / 1e9).toFixed(2)} GB, with up to ${maxTokens} tokens in a GPU batch`,
  );

  const reference = await timed(timings, "reference_s", () =>
    obtainReference(prepared, base, opened, model, terminal, signal),
  );
  const answer = async (when: "before" | "after"): Promise<string> => {
    if (!question) return "";
    const sample = await answerSample(gpu, base.weights, adapter, tokenizer, question, signal);
    reportSample(when, question, sample, terminal);
    return sample.text;
  };
  const before = await answer("before");

  const output = await RunFolder.create(config.output_dir, dumpConfig(config));
  const facts: RunFacts = { ...prepared, opened, base, chosen, referenceFrom: reference.from, timings };
  const reporter = createRunReporter(output, length.totalSteps, terminal);
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
          { loggingSteps: config.logging_steps, evalStrategy: config.eval_strategy, evalSteps: config.eval_steps },
          length,
        ),
        startsAtReference: start.isZero,
        onStepStart: profiler?.onStepStart,
        onStep: reporter.onStep,
        onRecord: reporter.onRecord,
        signal,
      }),
    );
    if (profiler) await reportProfile(profiler, output, terminal);
    const exported = await timed(timings, "export_s", () => exportResults(prepared, gpu, adapter, terminal, signal));
    const after = await answer("after");
    const samples = question && { before, after };
    await output.describe(describeRun(facts, { ...exported, ...reporter.pace(), samples }));
    terminal.line(`done in ${formatDuration(performance.now() - startMs)}: ${printable(output.path, 1000)}`);
  } catch (error) {
    const { steps } = reporter.pace();
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
          : error;
    await output.describeEnd(describeRun(facts, null), steps, ending);
    throw ending;
  } finally {
    await output.close();
  }
}

/** What a run leaves that has ended early, and what can be done with it. */
async function whatIsLeft(output: RunFolder): Promise<string> {
  const names = await output.list();
  const use = names.includes("adapter")
    ? "the adapter is whole, and dpo-train merge makes a model of it"
    : "there are no checkpoints yet, so to train again choose another output_dir, or remove it";
  return `${printable(output.path, 1000)} holds ${names.join(", ")}: ${use}`;
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

/** Runs a phase of the run and keeps how long it took, in seconds. */
async function timed<T>(timings: Record<string, number>, name: string, phase: () => Promise<T>): Promise<T> {
  const startMs = performance.now();
  const result = await phase();
  timings[name] = Math.round(performance.now() - startMs) / 1000;
  return result;
}
