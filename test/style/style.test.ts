import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { createMt19937 } from "../../src/random/mt19937.ts";
import { compareGroups } from "../../src/style/compare-groups.ts";
import { compareTexts } from "../../src/style/compare-texts.ts";
import { jensenShannonDistance } from "../../src/style/distance.ts";
import { estimateMean, shareInterval } from "../../src/style/estimate.ts";
import { overusedWords } from "../../src/style/overused-words.ts";
import { quantile } from "../../src/style/quantile.ts";
import { describeTexts } from "../../src/style/text-statistics.ts";
import { countSentences, wordsOf } from "../../src/style/words.ts";

interface Case {
  readonly words: readonly string[];
  readonly first: readonly number[];
  readonly second: readonly number[];
  readonly distance: number;
  readonly log_odds: readonly number[];
  readonly z: readonly number[];
}
const golden = JSON.parse(readFileSync(new URL("../golden/style.json", import.meta.url), "utf8")) as {
  cases: Record<string, Case>;
  quantiles: { values: number[]; shares: number[]; quantiles: number[] };
};
const cases = Object.entries(golden.cases);

describe.each(cases)("%s", (_, { words, first, second, distance, log_odds: logOdds, z }) => {
  it("has scipy's distance, in both directions", () => {
    expect(jensenShannonDistance(first, second)).toBeCloseTo(distance, 12);
    expect(jensenShannonDistance(second, first)).toBeCloseTo(distance, 12);
  });

  it("has the log-odds of the published equations, and only words that are used more", () => {
    const counts = (values: readonly number[]) =>
      new Map(words.flatMap((word, i) => (values[i]! > 0 ? [[word, values[i]!] as const] : [])));
    const found = overusedWords(counts(first), counts(second), words.length);
    const expected = words.flatMap((word, i) => (first[i]! > 0 && z[i]! > 0 ? [{ word, i }] : []));
    // Where both use a word equally, rounding says which uses it more.
    const isSure = ({ i }: { i: number }) => Math.abs(z[i]!) > 1e-9;
    expect(
      found
        .filter((word) => word.z > 1e-9)
        .map(({ word }) => word)
        .sort(),
    ).toEqual(expected.filter(isSure).map(({ word }) => word));
    for (const { word, logOdds: delta, z: score, count, otherCount } of found) {
      const i = words.indexOf(word);
      expect(delta).toBeCloseTo(logOdds[i]!, 10);
      expect(score).toBeCloseTo(z[i]!, 10);
      expect([count, otherCount]).toEqual([first[i], second[i]]);
    }
    expect(found.map((word) => word.z)).toEqual(found.map((word) => word.z).toSorted((a, b) => b - a));
  });
});

it("quantiles are numpy's", () => {
  const { values, shares, quantiles } = golden.quantiles;
  for (const [i, share] of shares.entries()) expect(quantile(values, share)).toBeCloseTo(quantiles[i]!, 12);
  expect(quantile([], 0.5)).toBeNaN();
});

describe("the distance", () => {
  it("is null where there is no word, 0 for the same shares, 1 for no common word", () => {
    expect(jensenShannonDistance([], [])).toBeNull();
    expect(jensenShannonDistance([0, 0], [1, 2])).toBeNull();
    expect(jensenShannonDistance([1, 2], [10, 20])).toBe(0);
    expect(jensenShannonDistance([3, 0], [0, 5])).toBe(1);
  });
});

describe("words", () => {
  it.each<[string, string[]]>([
    ["Don’t panic: it's 2.5× FASTER!", ["don't", "panic", "it's", "2.5", "faster"]],
    ["", []],
    ["… — 🎉 !?", []],
    ["ﬁne Straße ÉCOLE", ["fine", "straße", "école"]],
    ["naïve", ["naïve"]],
    ["state-of-the-art\tcode\r\nnext", ["state", "of", "the", "art", "code", "next"]],
    ["مرحبا بالعالم", ["مرحبا", "بالعالم"]],
    ["constructor __proto__", ["constructor", "__proto__"]],
  ])("of %j", (text, words) => {
    expect(wordsOf(text)).toEqual(words);
  });

  it("are told apart where a script has no spaces", () => {
    const words = wordsOf("机器学习改变世界。");
    expect(words.length).toBeGreaterThan(2);
    expect(words.join("")).toBe("机器学习改变世界");
  });

  it("are counted also where they are names of Object's", () => {
    const found = overusedWords(
      new Map([
        ["constructor", 9],
        ["__proto__", 3],
      ]),
      new Map([["a", 5]]),
      9,
    );
    expect(found.map(({ word }) => word)).toEqual(["constructor", "__proto__"]);
  });

  it("make sentences", () => {
    expect(countSentences("One. Two? Three!\n\n- four\n- five\n\n---\n")).toBe(5);
    expect(countSentences("")).toBe(0);
    expect(countSentences("It costs 2.5 dollars.")).toBe(1);
  });
});

describe("statistics", () => {
  it("of known texts", () => {
    const found = describeTexts(["I don't know. Therefore we wait!", "Understanding you, understanding me.", "", ""]);
    expect(found).toMatchObject({ texts: 4, empty: 2, repeated: 1, totalWords: 10, movingTypeTokenRatio: null });
    expect(found.words).toMatchObject({ mean: 2.5, median: 2, max: 6 });
    expect(found.sentences).toMatchObject({ mean: 0.75, max: 2 });
    expect(found.typeTokenRatio).toBe(0.9);
    const { markers } = found;
    expect(markers.contractions).toBeCloseTo(0.1, 12);
    expect(markers.firstPerson).toBeCloseTo(0.3, 12);
    expect(markers.secondPerson).toBeCloseTo(0.1, 12);
    expect(markers.longWords).toBeCloseTo(0.3, 12); // therefore, understanding twice
    expect(markers.formalConnectives).toBeCloseTo(0.1, 12);
    expect(markers.wordsPerSentence).toBeCloseTo(10 / 3, 12);
    expect(markers.exclamations).toBeCloseTo(1 / 3, 12);
    expect(markers.lix).toBeCloseTo(10 / 3 + 30, 12);
  });

  it("count a contraction, not a genitive", () => {
    const share = (text: string) => describeTexts([text]).markers.contractions;
    expect(share("Anna's dog's bone")).toBe(0);
    expect(share("it’s they’ll I’m we’d can’t")).toBe(1);
  });

  it("of no text and of texts without a word are null, not NaN", () => {
    for (const texts of [[], ["", "🎉 …"]]) {
      const found = describeTexts(texts);
      expect(JSON.parse(JSON.stringify(found))).toEqual(found);
      expect(found.typeTokenRatio).toBeNull();
      expect(Object.values(found.markers).every((value) => value === null)).toBe(true);
    }
  });

  it("count characters as people do, roughly: surrogate pairs once", () => {
    expect(describeTexts(["🎉🎉é"]).characters.max).toBe(3);
  });

  it("have a type-token ratio that does not fall as texts grow", () => {
    const words = Array.from({ length: 60 }, (_, i) => `word${i}`).join(" ");
    const once = describeTexts([words]);
    const often = describeTexts([Array(5).fill(words).join(" ")]);
    expect(once.typeTokenRatio).toBe(1);
    expect(often.typeTokenRatio).toBe(0.2);
    expect(often.movingTypeTokenRatio).toBe(once.movingTypeTokenRatio);
  });
});

describe("what chance makes of a distance", () => {
  const VOCABULARY = 400;
  /** Texts of words that are drawn by their weights. */
  function drawTexts(weights: readonly number[], texts: number, words: number, seed: number): string[][] {
    const random = createMt19937(seed);
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const draw = () => {
      let left = (random.nextUint32() / 2 ** 32) * total;
      const found = weights.findIndex((weight) => {
        left -= weight;
        return left < 0;
      });
      return `w${found}`;
    };
    return Array.from({ length: texts }, () => Array.from({ length: words }, draw));
  }
  const zipf = Array.from({ length: VOCABULARY }, (_, i) => 1 / (i + 2));
  const tilted = zipf.map((weight, i) => weight * Math.exp(0.8 * Math.sin(12.9898 * i)));
  const random = () => createMt19937(1);

  it("is all of it for two samples of one source", () => {
    const found = compareTexts(drawTexts(zipf, 12, 60, 2), drawTexts(zipf, 14, 60, 3), {
      isPaired: false,
      random: random(),
    });
    expect(found.distance).toBeGreaterThan(0.3); // What would be taken for a difference.
    expect(found.byChance).toBeCloseTo(found.distance!, 1);
    expect(found.interval![0]).toBe(0);
    expect(found.beyondChance).toBeLessThan(0.15);
    expect(found.pValue).toBeGreaterThan(0.05);
  });

  it("leaves about the distance of two sources", () => {
    const truth = jensenShannonDistance(zipf, tilted)!;
    const found = compareTexts(drawTexts(zipf, 40, 60, 2), drawTexts(tilted, 40, 60, 3), {
      isPaired: true,
      random: random(),
    });
    expect(found.distance).toBeGreaterThan(1.2 * truth);
    expect(found.beyondChance).toBeGreaterThan(0.8 * truth);
    expect(found.beyondChance).toBeLessThan(1.2 * truth);
    expect(found.interval![0]).toBeLessThan(truth);
    expect(found.interval![1]).toBeGreaterThan(truth);
    expect(found.pValue).toBeLessThan(0.01);
  });

  it("is nothing where texts are the same", () => {
    const texts = drawTexts(zipf, 5, 20, 2);
    const found = compareTexts(texts, texts, { isPaired: true, random: random() });
    expect(found).toEqual({ distance: 0, byChance: 0, beyondChance: 0, interval: [0, 0], pValue: 1 });
  });

  it("is unknown with a single text, and where there is no word", () => {
    const unknown = { byChance: null, beyondChance: null, interval: null, pValue: null };
    expect(compareTexts([["a"]], [["b"]], { isPaired: true, random: random() })).toEqual({ distance: 1, ...unknown });
    expect(compareTexts([[], []], [["b"], ["c"]], { isPaired: true, random: random() })).toEqual({
      distance: null,
      ...unknown,
    });
    expect(compareTexts([], [], { isPaired: true, random: random() }).distance).toBeNull();
  });

  it("cannot be told from texts that have no word in common at all", () => {
    const texts = (name: string) => Array.from({ length: 4 }, (_, i) => [`${name}${i}`, `${name}${i}x`]);
    const found = compareTexts(texts("a"), texts("b"), { isPaired: false, random: random() });
    expect(found).toEqual({ distance: 1, byChance: 1, beyondChance: null, interval: null, pValue: 1 });
  });

  it("leaves 1 for two sources without a common word", () => {
    const texts = (name: string) => Array.from({ length: 8 }, (_, i) => [name, `${name}${i % 2}`]);
    const found = compareTexts(texts("a"), texts("b"), { isPaired: true, random: random() });
    expect(found.distance).toBe(1);
    expect(found.beyondChance).toBe(1);
    expect(found.pValue).toBeLessThan(0.05);
  });

  it("is told also where most texts are empty", () => {
    const found = compareTexts([["a"], [], [], []], [["b"], [], [], []], { isPaired: false, random: random() });
    expect(found.distance).toBe(1);
    expect(
      Object.values(found)
        .flat()
        .every((value) => value === null || Number.isFinite(value)),
    ).toBe(true);
  });
});

it("groups are compared two by two, the same for the same seed", () => {
  const group = (name: string, texts: string[], questions = texts.map((_, i) => `q${i}`)) => ({
    name,
    texts,
    questions,
  });
  const groups = [
    group("base", ["a b c", "a d"]),
    group("trained", ["a x", "x y z"]),
    group("chosen", ["k"], ["another"]),
  ];
  const report = compareGroups(groups, 7);
  expect(report.distances.map(({ between, isPaired }) => [...between, isPaired])).toEqual([
    ["base", "trained", true],
    ["base", "chosen", false],
    ["trained", "chosen", false],
  ]);
  expect(report.overused).toHaveLength(6);
  expect(report.overused[2]).toMatchObject({ by: "trained", against: "base" });
  expect(report.overused[2]!.words[0]!.word).toBe("x");
  expect(compareGroups(groups, 7)).toEqual(report);
});

describe("estimates", () => {
  it("of a mean have an interval from two values on", () => {
    expect(estimateMean([])).toBeNull();
    expect(estimateMean([2])).toEqual({ mean: 2, count: 1, interval: null });
    expect(estimateMean([3, 3, 3])).toEqual({ mean: 3, count: 3, interval: [3, 3] });
    const { mean, interval } = estimateMean([1, 2, 3, 2])!;
    expect(mean).toBe(2);
    expect(interval![1] - mean).toBeCloseTo(1.96 * Math.sqrt(2 / 3 / 4), 12);
  });

  it("of a share are Wilson's, within 0 and 1", () => {
    const [low, high] = shareInterval(0.5, 4);
    // scipy.stats.binomtest(2, 4).proportion_ci(method="wilson"), whose quantile is not rounded to 1.96.
    expect(low).toBeCloseTo(0.15003898915214947, 5);
    expect(high).toBeCloseTo(0.8499610108478506, 5);
    expect(shareInterval(1, 3)[1]).toBe(1);
    expect(shareInterval(0, 3)[0]).toBe(0);
    expect(shareInterval(1, 3)[0]).toBeGreaterThan(0.4);
  });
});
