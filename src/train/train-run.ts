import { dumpConfig } from "../config/dump.ts";
import { placeOf } from "../data/problems.ts";
import { OutOfMemoryError } from "../errors.ts";
import { createLoraGradients, uploadAdapter } from "../model/lora.ts";
import { PairModel } from "../model/pair-model.ts";
import type { Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { readPeftAdapter } from "../weights/peft-adapter.ts";
import type { BegunRun } from "./begin-run.ts";
import {
  factsOfBase,
  factsOfConfig,
  factsOfDevice,
  factsOfReference,
  requireSameFacts,
} from "./checkpoint/identity.ts";
import { readMetricsCopy, restoreOptimizer } from "./checkpoint/read-checkpoint.ts";
import { createSaver, referenceFile, type Saver } from "./checkpoint/saver.ts";
import type { ChosenBatch } from "./choose-batch.ts";
import { endingOf } from "./endings.ts";
import { baseModelOf, exportResults } from "./export-results.ts";
import { type LogRecord, type Stop, trainLoop } from "./loop.ts";
import { describeWeights } from "./non-finite.ts";
import type { ReferenceLogps } from "./objective.ts";
import { createOptimizer } from "./optimizer.ts";
import { withAdvice } from "./out-of-memory.ts";
import { planBatch } from "./plan-batch.ts";
import type { PreparedData } from "./prepare-data.ts";
import { longestSequence, type PreparedRun } from "./prepare-run.ts";
import { formatDuration } from "./progress.ts";
import { writeReferenceCache } from "./reference-cache.ts";
import { obtainReference, obtainSameReference, type RunReference } from "./reference-source.ts";
import { RunFolder } from "./run-folder.ts";
import { describeRun, type RunFacts } from "./run-record.ts";
import { createRunReporter, type RunReporter } from "./run-reporter.ts";
import { answerOf, reportSample } from "./sample.ts";
import type { Session, SharedBase } from "./session.ts";
import { objectiveOf, optimizerSettingsOf } from "./settings.ts";
import type { TrainingPair } from "./step.ts";
import { reportProfile, type StepProfiler } from "./step-profiler.ts";
import { secondsSince, type Timings, timed } from "./timings.ts";
import { tuneDevice } from "./tune-device.ts";
import { planEvents } from "./when.ts";

export interface TrainOptions {
  readonly profiler?: StepProfiler | null;
  /** Asked after each evaluation but the last: whether the run should end there; null to go on. */
  readonly shouldStop?: (record: LogRecord) => Promise<Stop | null>;
  /** Called when config.yaml, run.json and metrics.jsonl are there, before the first step. */
  readonly onStart?: ((folder: string) => void) | undefined;
  /** Called when the run's files are as it leaves them, also where it fails. */
  readonly onEnd?: ((folder: string) => Promise<void>) | undefined;
  /** How the user continues the run, as messages say it. */
  readonly toContinue?: string;
}

/**
 * Trains on a session's device and writes the output folder; what it took on the GPU but for the base is given back.
 * Nothing is written before the reference is known.
 *
 * @returns how it was stopped before its last step; null where it came to its end
 * @param signal aborted with an ExpectedError: the step at hand is the last
 * @throws ExpectedError whose exit code says what kind of thing went wrong
 */
export async function trainRun(
  session: Session,
  begun: BegunRun,
  options: TrainOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<Stop | null> {
  const { prepared, resumed } = begun;
  if (resumed) {
    const { opened, precision } = session;
    requireSameFacts(resumed.state.identity, factsOfDevice(opened, precision), resumed.path);
  }
  const chosen = planBatch(resumed ? withBatch(prepared, resumed.state.maxTokensPerBatch) : prepared, session);
  try {
    return await trainWith(chosen, session, begun, options, terminal, signal);
  } catch (error) {
    throw withAdvice(error, chosen);
  }
}

/** The run with the GPU batches that it began with: others would round differently. */
function withBatch(prepared: PreparedRun, maxTokens: number): PreparedRun {
  return { ...prepared, config: { ...prepared.config, max_tokens_per_batch: maxTokens } };
}

async function trainWith(
  chosen: ChosenBatch,
  session: Session,
  begun: BegunRun,
  { profiler = null, shouldStop, onStart, onEnd, toContinue = "the same command with --resume" }: TrainOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<Stop | null> {
  const { prepared, resumed } = begun;
  const { config, folder } = prepared;
  const { opened, precision } = session;
  const { gpu } = opened;
  const startMs = performance.now();
  const timings: Timings = { ...resumed?.state.timings };
  if (chosen.isMemoryKnown) for (const reason of chosen.reasons) terminal.line(`plan: ${reason}`);
  if (resumed) {
    for (const [name, variant] of Object.entries(resumed.state.decisions)) gpu.decisions.decide(name, variant);
  } else if (precision === "f16") {
    await timed(timings, "tune_s", () => tuneDevice(opened, chosen.simulation.decisions, terminal, signal));
  }
  const shared = await session.base(folder, config.load_in_4bit, timings, terminal, signal);
  if (resumed) requireSameFacts(resumed.state.identity, factsOfBase(shared.base), resumed.path);

  const trained = await createTrained(chosen, session, shared, begun);
  try {
    terminal.status(`compiling ${gpu.pipelines.count} kernels`);
    await timed(timings, "compile_s", () => gpu.pipelines.ready());
    terminal.line(
      `${opened.adapter.name}: ${precision} matmuls, model and buffers take ${(gpu.memory.liveBytes / 1e9).toFixed(2)} GB, with up to ${chosen.choice.maxTokens} tokens in a GPU batch`,
    );
    const scored = { prepared, shared, opened, model: trained.model };
    const reference = await timed(timings, "reference_s", () =>
      resumed ? obtainSameReference(resumed, scored, terminal, signal) : obtainReference(scored, terminal, signal),
    );
    const before = resumed ? resumed.state.answerBefore : await answer("before");
    const output = await RunFolder.create(
      config.output_dir,
      dumpConfig(config),
      resumed ? { metrics: await readMetricsCopy(resumed.path), step: resumed.state.loop.step } : undefined,
    );
    const facts: RunFacts = {
      ...prepared,
      opened,
      base: shared.base,
      chosen,
      referenceFrom: reference.from,
      resumedFrom: resumed?.state.loop.step ?? null,
      timings,
    };
    const memoryUse = () => ({ gpuBytes: gpu.memory.liveBytes, hostBytes: process.memoryUsage.rss() });
    const reporter = createRunReporter(
      output,
      prepared.length.totalSteps,
      terminal,
      memoryUse,
      resumed?.state.progress,
    );
    try {
      await output.describe(describeRun(facts, null));
      onStart?.(output.path);
      const saver = createRunSaver({ facts, session, trained, reference, output, reporter, before });
      const stopped = await timed(timings, "train_s", () =>
        trainLoop({
          ...loopOptionsOf(prepared, reference),
          model: trained.model,
          optimizer: trained.optimizer,
          onStepStart: profiler?.onStepStart,
          onStep: (report) => {
            gpu.watchdog.endGrace();
            reporter.onStep(report);
          },
          onRecord: reporter.onRecord,
          shouldStop,
          resumed: resumed?.state.loop,
          saver,
          describeWeights: () => describeWeights(gpu, trained.adapter),
          signal,
        }),
      );
      if (profiler) await reportProfile(profiler, output, terminal);
      if (stopped !== null) {
        const { steps } = reporter.progress();
        await output.describe({ ...describeRun(facts, null), ...stopped, steps_done: steps });
        if (stopped.status === "stopped") terminal.line(`stopped after step ${steps}: ${stopped.reason}`);
        return stopped;
      }
      const exported = await timed(timings, "export_s", () =>
        exportResults(prepared, gpu, trained.adapter, terminal, signal),
      );
      const samples = prepared.question && { before, after: await answer("after") };
      await output.describe(describeRun(facts, { ...exported, progress: reporter.progress(), samples }));
      terminal.line(`done in ${formatDuration(performance.now() - startMs)}: ${printable(output.path, 1000)}`);
      return null;
    } catch (error) {
      const { steps } = reporter.progress();
      if (error instanceof OutOfMemoryError && steps === 0) {
        await output.discard();
        throw error;
      }
      const ending = await endingOf(error, { output, steps, length: prepared.length, chosen, signal, toContinue });
      await output.describeEnd(describeRun(facts, null), steps, ending);
      throw ending;
    } finally {
      await output.close();
      await onEnd?.(output.path);
    }
  } finally {
    trained.release();
  }

  async function answer(when: "before" | "after"): Promise<string> {
    const { question, start } = prepared;
    if (!question) return "";
    const isBase = when === "before" && start.isZero;
    const sample = await answerOf(prepared, question, gpu, shared, isBase ? null : trained.adapter, signal);
    reportSample(when, question, sample, terminal);
    return sample.text;
  }
}

type Trained = Awaited<ReturnType<typeof createTrained>>;

/** The adapter with all that trains it, as the run begins or as its checkpoint has it. */
async function createTrained(chosen: ChosenBatch, session: Session, shared: SharedBase, begun: BegunRun) {
  const { prepared, resumed } = begun;
  const { config, folder, data, start } = prepared;
  const { gpu } = session.opened;
  const weights = resumed ? await readPeftAdapter(resumed.path, folder.config) : start.adapter;
  const { value, buffers } = gpu.collect(() => {
    const adapter = uploadAdapter(gpu, folder.config, weights);
    const gradients = createLoraGradients(gpu, folder.config, adapter.settings);
    const model = new PairModel({
      gpu,
      weights: shared.base.weights,
      adapter,
      gradients,
      maxTokens: chosen.choice.maxTokens,
      stored: chosen.choice.stored,
      maxPositions: longestSequence(data),
      divergence: config.eval_kl,
    });
    return { adapter, model, optimizer: createOptimizer(gpu, adapter.layers, gradients, optimizerSettingsOf(config)) };
  });
  const release = () => {
    for (const buffer of buffers) gpu.release(buffer);
  };
  try {
    if (resumed) await restoreOptimizer(gpu, value.adapter.layers, value.optimizer, resumed.path);
  } catch (error) {
    release();
    throw error;
  }
  return { ...value, release };
}

interface SaverParts {
  readonly facts: RunFacts;
  readonly session: Session;
  readonly trained: Trained;
  readonly reference: RunReference;
  readonly output: RunFolder;
  readonly reporter: RunReporter;
  readonly before: string;
}

function createRunSaver({ facts, session, trained, reference, output, reporter, before }: SaverParts): Saver {
  const { config, folder, base, chosen, timings } = facts;
  const { opened, precision } = session;
  const trainStartMs = performance.now();
  const references = [...reference.train, ...reference.evaluation];
  const identity = {
    ...factsOfConfig(facts),
    ...factsOfDevice(opened, precision),
    ...factsOfBase(base),
    ...factsOfReference(references),
  };
  return createSaver({
    gpu: opened.gpu,
    adapter: trained.adapter,
    optimizer: trained.optimizer,
    target: {
      folder: output.checkpoints,
      metricsFile: output.metricsFile,
      model: folder.config,
      baseModel: baseModelOf(facts),
      keep: config.save_total_limit,
    },
    byTime: config.save_steps === undefined,
    prepare: () => writeReferenceCache(referenceFile(output.checkpoints), references),
    stateOf: (loop) => ({
      format: 1,
      loop,
      progress: reporter.progress(),
      timings: { ...timings, train_s: secondsSince(trainStartMs) + (timings.train_s ?? 0) },
      identity,
      maxTokensPerBatch: chosen.choice.maxTokens,
      decisions: Object.fromEntries(opened.gpu.decisions.used),
      answerBefore: before,
    }),
  });
}

/** What the loop is to do, as the config has it. */
function loopOptionsOf({ config, data, order, schedule, length, start }: PreparedRun, reference: RunReference) {
  const events = {
    loggingSteps: config.logging_steps,
    evalStrategy: config.eval_strategy,
    evalSteps: config.eval_steps,
    saveSteps: config.save_steps,
  };
  return {
    pairs: withReference(data.train, reference.train),
    evalPairs: withReference(data.evaluation, reference.evaluation),
    evaluation: { perDeviceEvalBatchSize: config.per_device_eval_batch_size, evalKl: config.eval_kl },
    objective: objectiveOf(config),
    order,
    schedule,
    events: planEvents(events, length),
    startsAtReference: start.isZero,
  };
}

function withReference(pairs: PreparedData["train"], references: readonly ReferenceLogps[]): TrainingPair[] {
  return pairs.map(({ promptIds, chosenIds, rejectedIds, source }, i) => ({
    promptIds,
    chosenIds,
    rejectedIds,
    reference: references[i]!,
    place: placeOf(source),
  }));
}
