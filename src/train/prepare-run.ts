import type { Config } from "../config/schema.ts";
import { type ScheduleLength, type ScheduleOptions, scheduleLength } from "../data/microbatches.ts";
import { formatPreflight } from "../data/preflight-text.ts";
import type { PairTokenizer } from "../data/tokenizer.ts";
import type { ResolvedModel } from "../hub/resolve.ts";
import type { Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import type { Inputs } from "./inputs.ts";
import type { DataRows, PreparedData } from "./prepare-data.ts";
import { prepareQuestion, type SampleQuestion } from "./sample.ts";
import type { LrSchedule } from "./schedule.ts";
import { lrScheduleOf, orderOf } from "./settings.ts";
import { type StartAdapter, startAdapter } from "./start-adapter.ts";

/** What a run needs besides a device: read, checked and decided. */
export interface PreparedRun {
  readonly config: Config;
  readonly model: ResolvedModel;
  readonly folder: ModelFolder;
  readonly tokenizer: PairTokenizer;
  readonly data: PreparedData;
  readonly start: StartAdapter;
  readonly order: ScheduleOptions;
  readonly length: ScheduleLength;
  readonly schedule: LrSchedule;
  /** Null without a `sample_prompt`. */
  readonly question: SampleQuestion | null;
}

/** @throws InputError for whatever in config, data or model files keeps the run from starting */
export async function prepareRun(
  config: Config,
  rows: DataRows,
  model: ResolvedModel,
  folder: ModelFolder,
  inputs: Inputs,
): Promise<PreparedRun> {
  const tokenizer = await inputs.tokenizer(model.folder);
  const data = await inputs.data(rows, config, tokenizer, model.folder, folder.config);
  const order = orderOf(config, data.train.length);
  const length = scheduleLength(order);
  return {
    config,
    model,
    folder,
    tokenizer,
    data,
    order,
    length,
    schedule: lrScheduleOf(config, length),
    start: await startAdapter(config, folder.config),
    question: await prepareQuestion(config, tokenizer, folder),
  };
}

/** Tells what was found in the data and how long the run will be. */
export function reportPreflight({ config, folder, data, length, schedule }: PreparedRun, terminal: Terminal): void {
  const steps = { ...length, warmupSteps: schedule.warmupSteps };
  terminal.line(`training on ${printable(config.dataset)}`);
  for (const line of formatPreflight(data.trainPreflight, steps)) terminal.line(`  ${line}`);
  if (data.evaluationPreflight) {
    terminal.line(`evaluation on ${printable(config.eval_dataset ?? `${config.test_size} of ${config.dataset}`)}`);
    for (const line of formatPreflight(data.evaluationPreflight)) terminal.line(`  ${line}`);
  }
  const { rows, first } = data.emptyPrompts;
  if (rows > 0) {
    terminal.line(
      `note: ${rows} rows have an empty prompt, first ${first}: if the question is in a column of another name, set columns: {prompt: NAME}`,
    );
  }
  if (schedule.warmupSteps >= length.totalSteps) {
    terminal.line(
      `note: warm-up takes all ${length.totalSteps} steps, so the learning rate never reaches ${config.learning_rate}; lower warmup_steps`,
    );
  }
  const [longest, context] = [longestSequence(data), folder.config.maxPositionEmbeddings];
  if (longest > context) {
    terminal.line(
      `note: the longest prompt with answer has ${longest} tokens, more than the ${context} that the model was made for (max_position_embeddings)`,
    );
  }
}

/** Tokens of the longest prompt with one of its answers. */
export function longestSequence({ train, evaluation }: Pick<PreparedData, "train" | "evaluation">): number {
  return [...train, ...evaluation].reduce((longest, { promptIds, chosenIds, rejectedIds }) => {
    return Math.max(longest, promptIds.length + Math.max(chosenIds.length, rejectedIds.length));
  }, 0);
}
