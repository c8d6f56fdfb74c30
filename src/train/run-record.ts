import { decidedTiles } from "../ops/fragment-shapes.ts";
import type { OpenedDevice } from "../platform/dawn.ts";
import type { LoadedBase } from "../platform/load-base.ts";
import { llamaTensors } from "../weights/llama-tensors.ts";
import { projectionSize } from "../weights/projections.ts";
import type { ChosenBatch } from "./choose-batch.ts";
import type { ExportedResults } from "./export-results.ts";
import type { Progress } from "./performance.ts";
import type { PreparedRun } from "./prepare-run.ts";
import { versions } from "./versions.ts";

/** What is known of a run once its reference is. */
export interface RunFacts extends PreparedRun {
  readonly opened: OpenedDevice;
  readonly base: LoadedBase;
  readonly chosen: ChosenBatch;
  readonly referenceFrom: "computed" | "cache";
  /** The steps after which the run was continued, in another process than the one that made them; null for none. */
  readonly resumedFrom: number | null;
  /** Seconds of each phase, filled as the run goes on. */
  readonly timings: Readonly<Record<string, number>>;
}

/** What is known besides when it is done. */
export interface RunResults extends ExportedResults {
  readonly progress: Progress;
  readonly samples: { readonly before: string; readonly after: string } | null;
}

/** run.json: with what, on what and how a run was made, so that it can be made again and compared. */
export function describeRun(facts: RunFacts, results: RunResults | null): object {
  const { config, model, folder, data, start, length, schedule, opened, base } = facts;
  const { adapter } = opened;
  return {
    status: results ? "done" : "running",
    versions: versions(),
    device: {
      name: adapter.name,
      vendor: adapter.vendor,
      architecture: adapter.architecture,
      software: adapter.software,
      features: adapter.features,
      enabled_features: opened.enabledFeatures,
      profile: opened.profile,
      toggles: opened.toggles,
      watched: opened.gpu.watch !== null,
      subgroup_size: adapter.subgroupMaxSize,
      f16_matrix: adapter.f16Matrix,
      tiles: decidedTiles(opened.gpu),
      max_binding_bytes: opened.gpu.bindingLimitBytes,
      max_buffer_bytes: adapter.limits.maxBufferSize,
    },
    precision: base.precision,
    load_in_4bit: config.load_in_4bit,
    model: {
      reference: config.model,
      ...(model.source === "local" ? {} : { revision: model.revision, commit: model.commit }),
      shape: folder.config,
      parameters: count(llamaTensors(folder.config).map(({ shape }) => shape.reduce((a, b) => a * b, 1))),
      size_bytes: base.sizeBytes,
      rounded_to_f16: base.rounded,
      loaded_from: base.from,
    },
    lora: {
      r: start.adapter.r,
      lora_alpha: start.adapter.loraAlpha,
      target_modules: start.adapter.targetModules,
      parameters: loraParameters(facts),
    },
    sha256: { weights: base.sha256, data: data.sha256, init_adapter: start.sha256 },
    data: { ...data.hub, train: data.trainPreflight, evaluation: data.evaluationPreflight },
    schedule: {
      total_steps: length.totalSteps,
      steps_per_epoch: length.stepsPerEpoch,
      warmup_steps: schedule.warmupSteps,
      max_tokens_per_batch: facts.chosen.choice.maxTokens,
      stored: facts.chosen.choice.stored,
    },
    reference: facts.referenceFrom,
    ...(facts.resumedFrom === null ? {} : { resumed_from_step: facts.resumedFrom }),
    timings: facts.timings,
    memory: { planned_bytes: facts.chosen.simulation.peakBytes, peak_bytes: opened.gpu.memory.peakBytes },
    ...(results && {
      speed: {
        seconds_per_step: results.progress.elapsedMs / 1000 / length.totalSteps,
        pairs_per_second: (results.progress.pairs * 1000) / results.progress.elapsedMs,
        tokens_per_second: (results.progress.tokens * 1000) / results.progress.elapsedMs,
      },
      samples: results.samples,
      adapter_sha256: results.adapterSha256,
      merge: results.merge,
    }),
  };
}

function loraParameters({ start, folder }: RunFacts): number {
  const { r, targetModules } = start.adapter;
  const perLayer = targetModules.map((projection) => {
    const { inFeatures, outFeatures } = projectionSize(folder.config, projection);
    return r * (inFeatures + outFeatures);
  });
  return folder.config.layers * count(perLayer);
}

function count(numbers: readonly number[]): number {
  return numbers.reduce((sum, number) => sum + number, 0);
}
