import type { CommentedSetting, ConfigPart } from "../../config/commented.ts";
import { descriptionOf, SETTING_KEYS, type SettingKey, settingOf } from "../../config/keys.ts";
import type { Config } from "../../config/schema.ts";
import { formatCount, formatSize } from "../../text.ts";
import type { DataFacts } from "./data-facts.ts";
import type { ModelFacts } from "./model-facts.ts";

/** What a config is suggested for. */
export interface SuggestionRequest {
  readonly model: ModelFacts;
  readonly data: DataFacts;
  /** What was said already, with defaults for the rest. */
  readonly config: Config;
  /** The settings that were said. */
  readonly given: ReadonlySet<SettingKey>;
}

/** Pairs for each optimizer step. */
const PAIRS_PER_STEP = 16;
const PAIRS_PER_MICRO_BATCH = 2;
/** Fewer steps than this move a model little: a small data set is read more than once. */
const ENOUGH_STEPS = 100;
const MOST_EPOCHS = 3;
const WARMUP_RATIO = 0.1;
/** Rows to evaluate on: enough to see a trend, within a share that training does not miss. */
const HELD_OUT_ROWS = 100;
const HELD_OUT_SHARES = { least: 0.02, most: 0.1 };
/** Of fewer rows none are held out: a handful would measure noise. */
const FEWEST_ROWS_TO_SPLIT = 40;
/** Above this the weights alone leave no room on a GPU of 24 GB. */
const LARGE_WEIGHTS_BYTES = 20e9;
/** Below this 4 bits save nothing worth having. */
const SMALL_WEIGHTS_BYTES = 2e9;

/** Highest learning rates by parameters, for LoRA: about a hundredth of what fine-tuning takes. */
const LEARNING_RATES: readonly (readonly [fewestParameters: number, learningRate: number])[] = [
  [30e9, 1e-6],
  [5e9, 2e-6],
  [1e9, 5e-6],
  [1e8, 2e-5],
  [1e7, 2e-4],
  [0, 1e-3],
];

/** A config for a model and a data set: the keys that matter, each with its reason. What was said is not overruled. */
export function suggestSettings(request: SuggestionRequest): ConfigPart[] {
  const { config, given } = request;
  const said = (key: SettingKey): CommentedSetting => setting(key, settingOf(config, key), descriptionOf(key));
  const parts = [
    part("The model", [...modelSettings(request), ...adapterSettings(request)]),
    part("The data", dataSettings(request)),
    part("The training", trainingSettings(request)),
    part("Evaluation and output", outputSettings(request)),
  ];
  const suggested = new Set(parts.flatMap(({ settings }) => settings.map(({ key }) => key)));
  const others = SETTING_KEYS.filter((key) => given.has(key) && !suggested.has(key)).map(said);
  return [...parts, part("As asked for", others)].map(({ title, settings }) => ({
    title,
    settings: settings
      .map((one) => (given.has(one.key) ? said(one.key) : one))
      .filter(({ value }) => value !== undefined),
  }));
}

function part(title: string, settings: CommentedSetting[]): ConfigPart {
  return { title, settings };
}

function setting(key: SettingKey, value: unknown, comment: string): CommentedSetting {
  return { key, value, comment };
}

function modelSettings({ model, config, given }: SuggestionRequest): CommentedSetting[] {
  const { parameters, weightsBytes, weights4BitBytes } = model;
  const size = `${formatCount(parameters)} parameters`;
  const settings = [setting("model", config.model, `A Llama model of ${size}. It should follow instructions already.`)];
  if (weightsBytes >= SMALL_WEIGHTS_BYTES || given.has("load_in_4bit")) {
    const sizes = `true: the weights take ${formatSize(weights4BitBytes)} of the GPU in place of ${formatSize(weightsBytes)}, and are a little less exact`;
    settings.push(setting("load_in_4bit", weightsBytes > LARGE_WEIGHTS_BYTES, `${sizes}.`));
  }
  return settings;
}

function adapterSettings({ model, config, given }: SuggestionRequest): CommentedSetting[] {
  const rank = model.parameters >= 1e9 ? 32 : 16;
  return [
    setting(
      "lora.r",
      rank,
      "Rank of the adapter: 8 to 64 is healthy. More learns more, takes memory and forgets more.",
    ),
    setting("lora.lora_alpha", rank, "Scale of the adapter: r to 2·r is healthy. It acts much like the learning rate."),
    // Beside the others, so that there is one map of them.
    ...(["lora.lora_dropout", "lora.target_modules"] as const)
      .filter((key) => given.has(key))
      .map((key) => setting(key, settingOf(config, key), descriptionOf(key))),
  ];
}

function dataSettings({ model, data, config, given }: SuggestionRequest): CommentedSetting[] {
  const { rows, layout, hasTestSplit } = data;
  const settings = [setting("dataset", config.dataset, `${plural(rows, "row")} of ${LAYOUT_NAMES[layout]}.`)];
  if (hasTestSplit) settings.push(setting("eval_dataset", config.dataset, "Its test split."));
  else if (holdsOut(data, config, given)) {
    const share = heldOutShare(rows);
    settings.push(
      setting(
        "test_size",
        share,
        `Held out to evaluate on: ${plural(Math.ceil(rows * share), "row")}. 0.02 to 0.1 is healthy.`,
      ),
    );
  }
  settings.push(setting("prompt_template", data.template.name, data.template.reason));
  const { longest, p99, cutRows, maxLength, countedRows } = data.lengths;
  const counted = countedRows < rows ? ` (of ${countedRows} rows that were counted)` : "";
  const cut = cutRows === 0 ? "nothing is cut" : `what is longer is cut, in ${plural(cutRows, "row")}`;
  const context = longest > model.context ? ` The model's context is ${model.context}.` : "";
  settings.push(
    setting(
      "max_length",
      maxLength,
      `Tokens of prompt plus answer. The longest has ${longest}, 99 % have up to ${p99}${counted}: ${cut}.${context}`,
    ),
  );
  return settings;
}

const LAYOUT_NAMES: Record<DataFacts["layout"], string> = {
  text: "text",
  messages: "messages",
  dialogue: "text that marks the turns of a dialogue",
};

function holdsOut({ rows, hasTestSplit }: DataFacts, config: Config, given: ReadonlySet<SettingKey>): boolean {
  if (hasTestSplit || config.eval_dataset !== undefined || given.has("eval_strategy")) return false;
  return given.has("test_size") ? config.test_size !== undefined : rows >= FEWEST_ROWS_TO_SPLIT;
}

function heldOutShare(rows: number): number {
  const share = Math.round((HELD_OUT_ROWS / rows) * 100) / 100;
  return Math.min(HELD_OUT_SHARES.most, Math.max(HELD_OUT_SHARES.least, share));
}

function trainingSettings({ model, data, config, given }: SuggestionRequest): CommentedSetting[] {
  const { batch, accumulation, epochs, stepsPerEpoch, steps } = length(data, config, given);
  const learningRate = LEARNING_RATES.find(([fewest]) => model.parameters >= fewest)![1];
  const warmup = `${plural(Math.ceil(WARMUP_RATIO * steps), "step")} of ${steps}`;
  const all = [
    setting("beta", 0.1, "How strongly the model is held to the reference: 0.01 to 0.5 is healthy, higher is closer."),
    setting(
      "learning_rate",
      learningRate,
      `Where to start for ${formatCount(model.parameters)} parameters. Too high, and rewards/chosen falls far.`,
    ),
    setting(
      "warmup_ratio",
      WARMUP_RATIO,
      `The learning rate rises over this share: ${warmup}. 0.03 to 0.1 is healthy.`,
    ),
    setting(
      "per_device_train_batch_size",
      batch,
      "Pairs per micro-batch. How many the GPU holds at once is chosen to fit it, and changes no result.",
    ),
    setting(
      "gradient_accumulation_steps",
      accumulation,
      `Micro-batches per optimizer step: ${plural(batch * accumulation, "pair")} for each. 8 to 64 is healthy.`,
    ),
    setting(
      "num_train_epochs",
      epochs,
      `Passes over the data, of ${plural(stepsPerEpoch, "step")} each. 1 to 3 is healthy.`,
    ),
  ];
  // What was said in another way.
  const instead = { warmup_ratio: "warmup_steps", num_train_epochs: "max_steps" } as const;
  return all.filter(({ key }) => !(Object.hasOwn(instead, key) && given.has(instead[key as keyof typeof instead])));
}

/** How the rows are divided into steps. */
function length(data: DataFacts, config: Config, given: ReadonlySet<SettingKey>) {
  const share = config.test_size ?? (holdsOut(data, config, given) ? heldOutShare(data.rows) : 0);
  const pairs = Math.max(1, data.rows - Math.ceil(data.rows * share));
  const said = <T>(key: SettingKey, suggested: T): T => (given.has(key) ? (settingOf(config, key) as T) : suggested);
  const batch = said("per_device_train_batch_size", Math.min(PAIRS_PER_MICRO_BATCH, pairs));
  const fitting = Math.max(1, Math.floor(Math.min(PAIRS_PER_STEP, pairs) / batch));
  const accumulation = said("gradient_accumulation_steps", fitting);
  const stepsPerEpoch = Math.ceil(Math.ceil(pairs / batch) / accumulation);
  const epochs = said("num_train_epochs", Math.min(MOST_EPOCHS, Math.ceil(ENOUGH_STEPS / stepsPerEpoch)));
  return { batch, accumulation, epochs, stepsPerEpoch, steps: config.max_steps ?? Math.ceil(epochs * stepsPerEpoch) };
}

function outputSettings({ data, config, given }: SuggestionRequest): CommentedSetting[] {
  const isEvaluated = data.hasTestSplit || holdsOut(data, config, given) || config.eval_strategy !== "no";
  const isScheduled = isEvaluated && !given.has("eval_strategy");
  return [
    ...(isScheduled
      ? [
          setting("eval_strategy", "steps", "Evaluate every eval_steps steps and at the end."),
          setting("eval_steps", 0.2, "Below 1 a share of the run: about five evaluations."),
        ]
      : []),
    ...(data.samplePrompt === null
      ? []
      : [
          setting(
            "sample_prompt",
            data.samplePrompt,
            "Answered before and after training. This is the first row's; write one that matters to you.",
          ),
        ]),
    setting("output_dir", config.output_dir, "Metrics, report.html, adapter/ and merged/."),
  ];
}

function plural(count: number, noun: string): string {
  return count === 1 ? `1 ${noun}` : `${count} ${noun}s`;
}
