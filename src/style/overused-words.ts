import { totalCount, type WordCounts } from "./words.ts";

/** A word that one group of texts uses more than another. */
export interface OverusedWord {
  readonly word: string;
  /** How often it stands in the texts, and in those that they are compared with. */
  readonly count: number;
  readonly otherCount: number;
  /** δ: the difference of the log-odds of the word, above 0 where it is used more. */
  readonly logOdds: number;
  /** δ by its standard deviation: about 2 or more is hardly chance, for a single word that was not searched for. */
  readonly z: number;
}

/**
 * Words that the prior counts as if they had been seen beforehand, spread over the vocabulary as in all texts together:
 * enough to keep a word that stands there once from looking important.
 */
const PRIOR_WORDS = 500;

/**
 * The words that texts use more than others, the surest first: log-odds ratio with an informative Dirichlet prior, by its
 * z-score (Monroe, Colaresi and Quinn 2008, equations 16 to 23, doi 10.1093/pan/mpn018). The prior is the distribution of
 * both groups together, worth {@link PRIOR_WORDS} words, or as many as there are where they are fewer.
 *
 * @param most how many at most; words that are not used more are never among them
 */
export function overusedWords(counts: WordCounts, others: WordCounts, most: number): OverusedWord[] {
  const [total, otherTotal] = [totalCount(counts), totalCount(others)];
  if (total === 0 || otherTotal === 0) return [];
  const priorTotal = Math.min(PRIOR_WORDS, total + otherTotal);
  const found: OverusedWord[] = [];
  for (const [word, count] of counts) {
    const otherCount = others.get(word) ?? 0;
    const prior = (priorTotal * (count + otherCount)) / (total + otherTotal);
    const logOdds =
      logOddsOf(count + prior, total + priorTotal) - logOddsOf(otherCount + prior, otherTotal + priorTotal);
    const variance = 1 / (count + prior) + 1 / (otherCount + prior);
    const z = logOdds / Math.sqrt(variance);
    if (z > 0 && Number.isFinite(z)) found.push({ word, count, otherCount, logOdds, z });
  }
  return found.sort((a, b) => b.z - a.z || (a.word < b.word ? -1 : 1)).slice(0, most);
}

function logOddsOf(count: number, total: number): number {
  return Math.log(count / (total - count));
}
