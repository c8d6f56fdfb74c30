import { type PairTokens, packedTokens } from "../../src/data/pack.ts";
import { readPreferenceRows } from "../../src/data/rows.ts";
import { tokenizeRows } from "../../src/data/tokenize.ts";
import { loadTokenizer, type PairTokenizer } from "../../src/data/tokenizer.ts";

// The pairs that trainers are timed on: texts of examples/twin-tiny joined to the lengths of the book's, about 1,000 packed
// tokens each. Every step has pairs of the same lengths, near enough, so that any step is a fair sample.

/** As configs/twin.yaml has it: 2 × 8. */
export const PAIRS_PER_STEP = 16;
const STEPS = 3;
const PROMPT_TOKENS = 80; // Alpaca's frame adds some 50
const ANSWER_TOKENS = 440;
/** An answer is shorter or longer than that by up to this share. */
const SPREAD = 0.4;
const MAX_LENGTH = 1024;

export interface PreferenceText {
  readonly prompt: string;
  readonly chosen: string;
  readonly rejected: string;
}

/** Tokens of an optimizer step, the mean over those that differ. */
export interface StepTokens {
  /** Prompts counted once, as dpo-train computes them. */
  readonly packed: number;
  /** Prompts counted with both answers, as trainers without packing compute them. */
  readonly promptsTwice: number;
}

export interface BenchPairs {
  readonly rows: readonly PreferenceText[];
  readonly tokensPerStep: StepTokens;
}

/**
 * @param example a folder like examples/twin-tiny
 * @param scale of the lengths, 1 for the book's
 * @throws InputError where a file of the example cannot be read
 */
export async function makePairs(example: string, scale: number): Promise<BenchPairs> {
  const tokenizer = await loadTokenizer(`${example}/model`);
  const rows = (await readPreferenceRows(`${example}/data/llmtwin-train.jsonl`)).filter((row) => row.kind === "text");
  const withTokens = (text: string): CountedText => ({ text, tokens: tokenizer.encode(text, false).length });
  const prompts = joiner(rows.map(({ prompt }) => withTokens(prompt)));
  const answers = joiner(rows.flatMap(({ chosen, rejected }) => [withTokens(chosen), withTokens(rejected)]));
  const pairs = Array.from({ length: STEPS * PAIRS_PER_STEP }, (_, i) => ({
    prompt: prompts(PROMPT_TOKENS * scale),
    chosen: answers(answerTokens(7 * i) * scale),
    rejected: answers(answerTokens(11 * i + 5) * scale),
  }));
  return { rows: pairs, tokensPerStep: countTokens(pairs, tokenizer) };
}

/** Of an answer with this number: a step's 16 answers have 16 lengths. */
export function answerTokens(number: number): number {
  const place = (2 * (number % PAIRS_PER_STEP)) / (PAIRS_PER_STEP - 1) - 1;
  return ANSWER_TOKENS * (1 + SPREAD * place);
}

interface CountedText {
  readonly text: string;
  readonly tokens: number;
}

/** Returns a function that joins the next texts until they have so many tokens, from the first again after the last. */
export function joiner(texts: readonly CountedText[]): (tokens: number) => string {
  let next = 0;
  return (tokens) => {
    const parts: string[] = [];
    for (let sum = 0; sum < tokens; next++) {
      const part = texts[next % texts.length]!;
      parts.push(part.text);
      sum += part.tokens;
    }
    return parts.join(" ");
  };
}

function countTokens(texts: readonly PreferenceText[], tokenizer: PairTokenizer): StepTokens {
  const rows = texts.map((text, i) => ({
    kind: "text" as const,
    ...text,
    source: { file: "pairs.jsonl", line: i + 1 },
  }));
  const { pairs } = tokenizeRows(rows, tokenizer, { promptTemplate: "alpaca", maxLength: MAX_LENGTH });
  const total = (tokensOf: (pair: PairTokens) => number) => pairs.reduce((sum, pair) => sum + tokensOf(pair), 0);
  return {
    packed: total(packedTokens) / STEPS,
    promptsTwice: total((pair) => 2 * pair.promptIds.length + pair.chosenIds.length + pair.rejectedIds.length) / STEPS,
  };
}
