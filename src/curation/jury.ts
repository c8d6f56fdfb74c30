/**
 * What a judge makes of a pair of answers, asked in both orders: the same answer both times, the one that stood first or
 * second whichever it was, or not two verdicts at all.
 */
export type Vote = "first answer" | "second answer" | "position A" | "position B" | "missing";

/** @param forward the letter where the first answer was A, @param backward where it was B; null without a verdict */
export function voteOf(forward: "A" | "B" | null, backward: "A" | "B" | null): Vote {
  if (forward === null || backward === null) return "missing";
  if (forward === backward) return forward === "A" ? "position A" : "position B";
  return forward === "A" ? "first answer" : "second answer";
}

/** How many of the judges must agree: more than half of all, or all. */
export type Agreement = "majority" | "all";

/** Which of two answers the jury prefers, or null. A judge that decides by position, or not at all, is for neither. */
export function juryVerdict(votes: readonly Vote[], agreement: Agreement): "first" | "second" | null {
  const needed = agreement === "all" ? votes.length : Math.floor(votes.length / 2) + 1;
  if (votes.filter((vote) => vote === "first answer").length >= needed) return "first";
  if (votes.filter((vote) => vote === "second answer").length >= needed) return "second";
  return null;
}

/** A pair's verdict among more than two answers. `winner` and `loser` are indices of answers. */
export interface PairVerdict {
  readonly winner: number;
  readonly loser: number;
}

/**
 * The answer that wins most (wins less losses), and of those that it beats the one that loses most; null where two are
 * equally best or the best beats none. Of equally bad answers it is the first.
 */
export function bestAndWorst(answers: number, verdicts: readonly PairVerdict[]): PairVerdict | null {
  const score = new Array<number>(answers).fill(0);
  for (const { winner, loser } of verdicts) {
    score[winner]!++;
    score[loser]!--;
  }
  const top = Math.max(...score);
  const winner = score.indexOf(top);
  if (score.indexOf(top, winner + 1) >= 0) return null;
  const beaten = verdicts
    .filter((verdict) => verdict.winner === winner)
    .map(({ loser }) => loser)
    .sort((a, b) => score[a]! - score[b]! || a - b);
  return beaten.length === 0 ? null : { winner, loser: beaten[0]! };
}

/**
 * Cohen's kappa of two raters (Cohen 1960): agreement beyond that of chance, 1 at most. Null where it is not defined: no
 * item, or all ratings the same.
 */
export function cohenKappa<T>(first: readonly T[], second: readonly T[]): number | null {
  const items = first.length;
  const categories = new Set([...first, ...second]);
  const observed = first.filter((rating, i) => rating === second[i]).length / items;
  const share = (ratings: readonly T[], category: T) => ratings.filter((rating) => rating === category).length / items;
  const expected = [...categories].reduce((sum, category) => sum + share(first, category) * share(second, category), 0);
  return items === 0 || categories.size < 2 ? null : (observed - expected) / (1 - expected);
}

/**
 * Fleiss' kappa of any number of raters (Fleiss 1971).
 *
 * @param ratings for each item one rating of each rater
 * @returns null where it is not defined, as `cohenKappa`
 */
export function fleissKappa<T>(ratings: readonly (readonly T[])[]): number | null {
  const raters = ratings[0]?.length ?? 0;
  const categories = [...new Set(ratings.flat())];
  if (raters < 2 || categories.length < 2) return null;
  const counts = ratings.map((item) =>
    categories.map((category) => item.filter((rating) => rating === category).length),
  );
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const observed = mean(
    counts.map((item) => (item.reduce((sum, count) => sum + count * count, 0) - raters) / (raters * (raters - 1))),
  );
  const expected = categories.reduce((sum, _, i) => sum + (mean(counts.map((item) => item[i]!)) / raters) ** 2, 0);
  return (observed - expected) / (1 - expected);
}
