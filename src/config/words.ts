/** `["a", "b", "c"]` as "a, b or c". */
export function list(names: readonly string[], conjunction: "and" | "or"): string {
  return names.length < 2 ? names.join() : `${names.slice(0, -1).join(", ")} ${conjunction} ${names.at(-1)}`;
}

/** The candidate that `word` is most likely a slip of: a few letters wrong, missing, too many or swapped. */
export function closest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  // One slip in every three letters. A word too long to be a slip of anything is not measured.
  let bestDistance = Math.floor(Math.min(word.length, 60) / 3) + 1;
  for (const candidate of candidates) {
    if (Math.abs(candidate.length - word.length) >= bestDistance) continue;
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/** Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b` (optimal string alignment). */
export function editDistance(a: string, b: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      row[j] = Math.min(previous[j]! + 1, row[j - 1]! + 1, substitution);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        row[j] = Math.min(row[j]!, beforePrevious[j - 2]! + 1);
      }
    }
    [beforePrevious, previous] = [previous, row];
  }
  return previous[b.length]!;
}
