import type { SettingKey } from "../../config/keys.ts";
import type { PromptTemplate } from "../../config/names.ts";
import type { Config } from "../../config/schema.ts";
import { findDatasetFiles } from "../../data/dataset-files.ts";
import { lengthStatistics } from "../../data/findings.ts";
import type { PreferenceRow } from "../../data/rows.ts";
import { encodePrompt, tokenizeRows } from "../../data/tokenize.ts";
import type { PairTokenizer } from "../../data/tokenizer.ts";
import { InputError } from "../../errors.ts";
import type { ResolveOptions } from "../../hub/resolve.ts";
import { printable } from "../../text.ts";
import { readData } from "../prepare-data.ts";

/** What settings depend on in a data set. */
export interface DataFacts {
  readonly rows: number;
  readonly layout: Layout;
  /** Whether the data set has a split named test, and nothing else was said to evaluate on. */
  readonly hasTestSplit: boolean;
  readonly template: { readonly name: PromptTemplate; readonly reason: string };
  readonly lengths: Lengths;
  /** A short question of the first row; null where it has none. */
  readonly samplePrompt: string | null;
}

/** How the rows are written. A dialogue is text that marks its turns as HH-RLHF does. */
export type Layout = "text" | "messages" | "dialogue";

/** Tokens of prompt plus longer answer. */
export interface Lengths {
  readonly countedRows: number;
  readonly longest: number;
  readonly p99: number;
  /** Suggested, or as it was said. */
  readonly maxLength: number;
  /** Rows among the counted that lose something to it. */
  readonly cutRows: number;
}

/** Of more rows so many are counted, spread evenly. */
const MOST_COUNTED_ROWS = 2000;
/** Up to here no row is cut; beyond, the longest hundredth may be. */
const LONGEST_UNCUT = 2048;
const LENGTH_STEP = 64;
const LONGEST_SAMPLE_CHARACTERS = 300;

/**
 * Looks at the rows of a data set as a model would read them.
 *
 * @param context positions that the model was made for
 * @throws InputError where the data cannot be read, or no prompt fits the model
 */
export async function lookAtData(
  config: Config,
  given: ReadonlySet<SettingKey>,
  tokenizer: PairTokenizer,
  context: number,
  options: ResolveOptions,
): Promise<DataFacts> {
  const { train } = await readData({ ...config, eval_dataset: undefined, test_size: undefined }, options);
  const layout = layoutOf(train[0]!);
  const template = given.has("prompt_template")
    ? { name: config.prompt_template, reason: "" }
    : suggestTemplate(train, layout, tokenizer);
  const isEvaluationSaid = (["eval_dataset", "test_size", "eval_strategy"] as const).some((key) => given.has(key));
  return {
    rows: train.length,
    layout,
    hasTestSplit: !isEvaluationSaid && (await hasTestSplit(config, options)),
    template,
    lengths: measure(train, tokenizer, template.name, context, given.has("max_length") ? config.max_length : null),
    samplePrompt: sampleOf(train[0]!, tokenizer, template.name, context),
  };
}

function layoutOf(row: PreferenceRow): Layout {
  if (row.kind === "messages") return "messages";
  return row.dialogue ? "dialogue" : "text";
}

async function hasTestSplit({ dataset, dataset_config: config }: Config, options: ResolveOptions): Promise<boolean> {
  const wanted = { key: "dataset", reference: dataset, config, splitKey: "dataset_test_split", defaultSplit: "test" };
  try {
    // Said outright: a folder whose names tell no split would else be its own test set.
    await findDatasetFiles({ ...wanted, split: "test" }, options);
    return true;
  } catch (error) {
    if (error instanceof InputError) return false; // The training split was there, so that this one is not.
    throw error;
  }
}

/** What chat and instruction templates leave in a text. */
const TEMPLATE_MARKS = /<\|im_start\|>|<\|start_header_id\|>|\[INST\]|### (Instruction|Response|Human)|<\|user\|>/;

function suggestTemplate(
  rows: readonly PreferenceRow[],
  layout: Layout,
  { chatTemplate }: PairTokenizer,
): DataFacts["template"] {
  if (layout === "messages")
    return { name: "chat", reason: "Messages are written with the model's own chat template." };
  const marked = rows.filter((row) => row.kind === "text" && TEMPLATE_MARKS.test(row.prompt)).length;
  if (marked > rows.length / 2) {
    return { name: "none", reason: "The prompts hold the marks of a template already: nothing is put around them." };
  }
  if (chatTemplate)
    return { name: "chat", reason: "The model has a chat template: each prompt becomes a user's message." };
  if (layout === "dialogue")
    return { name: "none", reason: "The turns stay as they are written: the model has no chat template." };
  return {
    name: "alpaca",
    reason: "The model has no chat template. Choose what it was fine-tuned with: alpaca, as many are, or none.",
  };
}

function measure(
  rows: readonly PreferenceRow[],
  tokenizer: PairTokenizer,
  promptTemplate: PromptTemplate,
  context: number,
  said: number | null,
): Lengths {
  const stride = Math.max(1, rows.length / MOST_COUNTED_ROWS);
  const counted = Array.from(
    { length: Math.min(rows.length, MOST_COUNTED_ROWS) },
    (_, i) => rows[Math.floor(i * stride)]!,
  );
  const { pairs } = tokenizeRows(counted, tokenizer, { promptTemplate, maxLength: Number.MAX_SAFE_INTEGER });
  const lengths = pairs.map(
    ({ promptIds, chosenIds, rejectedIds }) => promptIds.length + Math.max(chosenIds.length, rejectedIds.length),
  );
  const { max: longest, p99 } = lengthStatistics(lengths);
  const shortestPrompt = Math.min(...pairs.map(({ promptIds }) => promptIds.length));
  if (shortestPrompt >= context) {
    throw new InputError(
      `--dataset: prompts must leave room for an answer in the model's context of ${context} tokens ` +
        `(max_position_embeddings), and the shortest has ${shortestPrompt}; choose a model with a longer context`,
    );
  }
  const wanted = longest <= LONGEST_UNCUT ? longest : p99;
  const maxLength = said ?? Math.min(context, Math.ceil(wanted / LENGTH_STEP) * LENGTH_STEP);
  const cutRows = lengths.filter((length) => length > maxLength).length;
  return { countedRows: counted.length, longest, p99, maxLength, cutRows };
}

function sampleOf(
  row: PreferenceRow,
  tokenizer: PairTokenizer,
  template: PromptTemplate,
  context: number,
): string | null {
  const question = questionOf(row);
  if (question === null || question.trim() === "" || question.length > LONGEST_SAMPLE_CHARACTERS) return null;
  // A question with other than plain text would not be easy to read in a config.
  if (printable(question, Infinity) !== question) return null;
  return encodePrompt(question, tokenizer, template).length < context ? question : null;
}

/** The question of a row that has only one. */
function questionOf(row: PreferenceRow): string | null {
  if (row.kind === "text" && !row.dialogue) return row.prompt;
  const prompt = row.kind === "messages" ? row.prompt : row.dialogue!.prompt;
  const turns = prompt.filter(({ role }) => role !== "system");
  return turns.length === 1 ? turns[0]!.content : null;
}
