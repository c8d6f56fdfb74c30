import type { Mt19937 } from "../random/mt19937.ts";
import { jensenShannonDistance } from "./distance.ts";

/** The words of each text. */
export type Texts = readonly (readonly string[])[];

export interface ComparedTexts {
  /** Jensen–Shannon distance of the words of both groups, null where a group has none. */
  readonly distance: number | null;
  /** The distance that texts of a single source would have: so many differ by so much anyway. */
  readonly byChance: number | null;
  /** What the distance is beyond that: 0 where nothing speaks for two sources. */
  readonly beyondChance: number | null;
  /** 95% interval of `beyondChance`. */
  readonly interval: readonly [low: number, high: number] | null;
  /** Share of chance's distances that are at least as large as the one found. */
  readonly pValue: number | null;
}

export interface CompareOptions {
  /** Whether texts of the same index answer the same question: they are then drawn together. */
  readonly isPaired: boolean;
  readonly random: Mt19937;
}

const ROUNDS = 300;

/**
 * The distance between the words of two groups of texts, and how much of it is chance. Texts, not words, are drawn anew:
 * the words of one text depend on each other.
 *
 * A vocabulary is never seen whole, so any two groups look apart: twenty answers of one source easily by 0.5. What they
 * would look apart by is c, the mean divergence over random regroupings of the same texts (a permutation test). As kappa
 * corrects agreement, (divergence − c) / (1 − c) is what is left, 0 for one source and 1 for two without a word in common;
 * its root estimates the distance of the sources. The interval is that of the divergence plus and minus 1.96 bootstrap
 * standard errors. All but `distance` is null with fewer than two texts in a group.
 */
export function compareTexts(first: Texts, second: Texts, { isPaired, random }: CompareOptions): ComparedTexts {
  if (isPaired && first.length !== second.length) throw new RangeError("internal: texts that are no pairs");
  const [numbered, otherNumbered, vocabularySize] = numberWords(first, second);
  const divergenceOf = (texts: Numbered, others: Numbered): number | null => {
    const distance = jensenShannonDistance(countsOf(texts, vocabularySize), countsOf(others, vocabularySize));
    return distance && distance ** 2;
  };
  const divergence = divergenceOf(numbered, otherNumbered);
  const nothing = { byChance: null, beyondChance: null, interval: null, pValue: null };
  if (divergence === null) return { distance: null, ...nothing };
  const distance = Math.sqrt(divergence);
  if (first.length < 2 || second.length < 2) return { distance, ...nothing };

  const resampled: number[] = [];
  const regrouped: number[] = [];
  const keep = (divergences: number[], found: number | null) => found !== null && divergences.push(found);
  for (let round = 0; round < ROUNDS; round++) {
    const rows = drawIndices(first.length, random);
    const otherRows = isPaired ? rows : drawIndices(second.length, random);
    keep(resampled, divergenceOf(pick(numbered, rows), pick(otherNumbered, otherRows)));
    const groups = isPaired ? swapPairs(numbered, otherNumbered, random) : dealAnew(numbered, otherNumbered, random);
    keep(regrouped, divergenceOf(...groups));
  }
  if (resampled.length < 2 || regrouped.length === 0) return { distance, ...nothing };
  const chance = mean(regrouped);
  // Where no two texts have a word in common, every grouping is as far apart as can be.
  if (chance > 1 - ROUNDING) return { distance, ...nothing, byChance: 1, pValue: 1 };
  const margin = 1.96 * standardDeviation(resampled);
  const distanceBeyond = (amount: number) => Math.sqrt(Math.min(1, Math.max(0, (amount - chance) / (1 - chance))));
  return {
    distance,
    byChance: Math.sqrt(chance),
    beyondChance: distanceBeyond(divergence),
    interval: [distanceBeyond(divergence - margin), distanceBeyond(divergence + margin)],
    // The grouping at hand is itself one that chance could have made (Phipson and Smyth 2010).
    pValue: (1 + regrouped.filter((other) => other >= divergence - ROUNDING).length) / (1 + regrouped.length),
  };
}

/** By how much two sums of the same terms in another order may differ. */
const ROUNDING = 1e-9;

/** Each text's words as numbers. */
type Numbered = readonly Uint32Array[];

function numberWords(first: Texts, second: Texts): [Numbered, Numbered, number] {
  const numbers = new Map<string, number>();
  const numberOf = (word: string): number => {
    const known = numbers.get(word);
    if (known !== undefined) return known;
    numbers.set(word, numbers.size);
    return numbers.size - 1;
  };
  const numbered = (texts: Texts) => texts.map((words) => Uint32Array.from(words, numberOf));
  return [numbered(first), numbered(second), numbers.size];
}

function countsOf(texts: Numbered, vocabularySize: number): Float64Array {
  const counts = new Float64Array(vocabularySize);
  for (const words of texts) for (const word of words) counts[word]!++;
  return counts;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function standardDeviation(values: readonly number[]): number {
  const center = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - center) ** 2, 0) / (values.length - 1));
}

function pick(texts: Numbered, indices: readonly number[]): Numbered {
  return indices.map((index) => texts[index]!);
}

function drawIndices(count: number, random: Mt19937): number[] {
  return Array.from({ length: count }, () => drawBelow(count, random));
}

function drawBelow(count: number, random: Mt19937): number {
  return Math.floor((random.nextUint32() / 2 ** 32) * count);
}

/** Each question's two texts, in either group at random. */
function swapPairs(first: Numbered, second: Numbered, random: Mt19937): [Numbered, Numbered] {
  const isSwapped = first.map(() => random.nextUint32() >= 2 ** 31);
  const mix = (texts: Numbered, others: Numbered) => texts.map((text, i) => (isSwapped[i] ? others[i]! : text));
  return [mix(first, second), mix(second, first)];
}

/** All texts, in groups of the same sizes at random (Fisher–Yates). */
function dealAnew(first: Numbered, second: Numbered, random: Mt19937): [Numbered, Numbered] {
  const all = [...first, ...second];
  for (let i = all.length - 1; i > 0; i--) {
    const other = drawBelow(i + 1, random);
    const swapped = all[i]!;
    all[i] = all[other]!;
    all[other] = swapped;
  }
  return [all.slice(0, first.length), all.slice(first.length)];
}
