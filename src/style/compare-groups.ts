import { createMt19937 } from "../random/mt19937.ts";
import { type ComparedTexts, compareTexts } from "./compare-texts.ts";
import { type OverusedWord, overusedWords } from "./overused-words.ts";
import { describeTexts, type TextStatistics } from "./text-statistics.ts";
import { countWords, wordsOf } from "./words.ts";

/** Texts of one source. */
export interface TextGroup {
  readonly name: string;
  readonly texts: readonly string[];
  /** What each text answers, in the order of `texts`. */
  readonly questions: readonly string[];
}

export interface ComparedGroups extends ComparedTexts {
  readonly between: readonly [string, string];
  /** Whether the texts of both answer the same questions. */
  readonly isPaired: boolean;
}

export interface Overuse {
  readonly by: string;
  readonly against: string;
  readonly words: readonly OverusedWord[];
}

export interface StyleReport {
  readonly groups: Readonly<Record<string, TextStatistics>>;
  /** Every two groups. */
  readonly distances: readonly ComparedGroups[];
  /** Every group against every other one. */
  readonly overused: readonly Overuse[];
}

const SHOWN_WORDS = 25;

/** How groups of texts are written, and how they differ. The same seed draws the same samples for the intervals. */
export function compareGroups(groups: readonly TextGroup[], seed: number): StyleReport {
  const known = groups.map((group) => {
    const words = group.texts.map(wordsOf);
    return { ...group, words, counts: countWords(words) };
  });
  const random = createMt19937(seed);
  return {
    groups: Object.fromEntries(groups.map(({ name, texts }) => [name, describeTexts(texts)])),
    distances: known.flatMap((first, i) =>
      known.slice(i + 1).map((second) => {
        const isPaired = haveSameQuestions(first, second);
        const between = [first.name, second.name] as const;
        return { between, isPaired, ...compareTexts(first.words, second.words, { isPaired, random }) };
      }),
    ),
    overused: known.flatMap((by) =>
      known
        .filter((against) => against !== by)
        .map((against) => ({
          by: by.name,
          against: against.name,
          words: overusedWords(by.counts, against.counts, SHOWN_WORDS),
        })),
    ),
  };
}

function haveSameQuestions({ questions }: TextGroup, other: TextGroup): boolean {
  return questions.length === other.questions.length && questions.every((text, i) => text === other.questions[i]);
}
