import type { Config } from "../config/schema.ts";
import type { PreferenceRow } from "../data/rows.ts";
import { type TokenizedPair, tokenizeRows } from "../data/tokenize.ts";
import { loadTokenizer, type PairTokenizer } from "../data/tokenizer.ts";
import { InputError } from "../errors.ts";
import type { TextGroup } from "../style/compare-groups.ts";
import { type DataRows, requireKnownTokens } from "../train/prepare-data.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import { chosenText, encodeQuestions, type Question, questionsOfPairs } from "./held-out.ts";
import { readQuestions } from "./questions.ts";

/** What is asked and compared. */
export interface Material {
  readonly tokenizer: PairTokenizer;
  readonly questions: readonly Question[];
  /** Held-out ones, none where the config holds none out. */
  readonly pairs: readonly TokenizedPair[];
  /** Preferred answers. */
  readonly chosen: TextGroup;
  readonly chosenFrom: ChosenSource;
}

/** Whose preferred answers the models' are compared with. */
export type ChosenSource = "the pairs asked" | "all held-out pairs" | "the training pairs";

/**
 * @param file questions; null to ask the prompts of the held-out pairs
 * @param limit how many are asked at most, the first ones
 * @throws InputError where there is nothing to ask, or naming by file and line what does not fit
 */
export async function prepareMaterial(
  config: Config,
  rows: DataRows,
  folder: ModelFolder,
  file: string | null,
  limit: number,
): Promise<Material> {
  if (file === null && rows.evaluation.length === 0) {
    throw new InputError(
      "there is nothing to ask: the config has neither eval_dataset nor test_size, so give --questions FILE or set one of them",
    );
  }
  const tokenizer = await loadTokenizer(folder.path);
  const pairs = tokenizeHeldOut(rows.evaluation, config, tokenizer, folder);
  if (file === null) {
    const questions = questionsOfPairs(rows.evaluation, pairs, folder.config).slice(0, limit);
    const texts = questions.map(({ chosen }) => chosen!);
    const chosen = { name: "chosen", texts, questions: questions.map(({ text }) => text) };
    return { tokenizer, questions, pairs, chosen, chosenFrom: "the pairs asked" };
  }
  const encoding = { tokenizer, config: folder.config, promptTemplate: config.prompt_template };
  const isHeldOut = rows.evaluation.length > 0;
  return {
    tokenizer,
    questions: encodeQuestions(await readQuestions(file), encoding).slice(0, limit),
    pairs,
    chosen: { name: "chosen", texts: (isHeldOut ? rows.evaluation : rows.train).map(chosenText), questions: [] },
    chosenFrom: isHeldOut ? "all held-out pairs" : "the training pairs",
  };
}

function tokenizeHeldOut(
  rows: readonly PreferenceRow[],
  config: Config,
  tokenizer: PairTokenizer,
  folder: ModelFolder,
): TokenizedPair[] {
  if (rows.length === 0) return [];
  const options = { promptTemplate: config.prompt_template, maxLength: config.max_length };
  const tokenized = tokenizeRows(rows, tokenizer, options);
  requireKnownTokens(tokenized, folder.config);
  return tokenized.pairs;
}
