import { describe, expect, it } from "vitest";
import { readVerdict } from "../../src/curation/judge-prompt.ts";
import { disagreement, judgeStatistics } from "../../src/curation/judge-report.ts";
import { bestAndWorst, cohenKappa, fleissKappa, juryVerdict, type Vote, voteOf } from "../../src/curation/jury.ts";

const reply = (content: string, finishReason: string | null = "stop") => ({ content, refusal: null, finishReason });

describe("a judge's reply", () => {
  it.each([
    ["Reasoning: A is short.\nBest answer: B", "B"],
    ["Best answer: A", "A"],
    ["best answer: b.", "B"],
    ["**Best answer:** B", "B"],
    ["**Best answer: A**", "A"],
    ["Best answer: (A)", "A"],
    ["Best Answer: Answer B", "B"],
    ["The best answer is B.", "B"],
    ['{"reasoning": "…", "best_answer": "A"}', "A"],
    ["Best answer: (A or B)\nReasoning: …\nBest answer: B", "B"],
    ["Best answer: A\nOn reflection:\nBest answer: B", "B"],
  ])("%j", (content, best) => {
    expect(readVerdict(reply(content))).toEqual({ best });
  });

  it.each([
    ["", "no verdict"],
    ["A", "no verdict"],
    ["Best answer: (A or B)", "no verdict"],
    ["Best answer: A or B", "no verdict"],
    ["Best answer: A and B are equal", "no verdict"],
    ["Best answer: neither", "no verdict"],
    ["Best answer: C", "no verdict"],
    ["Best answer: Apple", "no verdict"],
    ["Both are good.", "no verdict"],
  ])("%j gives none", (content, unusable) => {
    expect(readVerdict(reply(content))).toMatchObject({ unusable });
  });

  it("that was refused or cut off", () => {
    expect(readVerdict({ content: "", refusal: "no", finishReason: "stop" })).toMatchObject({ unusable: "refusal" });
    expect(readVerdict(reply("Reasoning: it is", "length"))).toMatchObject({ unusable: "cut" });
    expect(readVerdict(reply("", "content_filter"))).toMatchObject({ unusable: "refusal" });
  });
});

it("a vote needs the same answer in both orders", () => {
  expect([voteOf("A", "B"), voteOf("B", "A"), voteOf("A", "A"), voteOf("B", "B")]).toEqual([
    "first answer",
    "second answer",
    "position A",
    "position B",
  ]);
  expect([voteOf(null, "B"), voteOf("A", null), voteOf(null, null)]).toEqual(["missing", "missing", "missing"]);
});

it("a jury decides by the majority of all its judges, or by all", () => {
  const [f, s, p, m]: Vote[] = ["first answer", "second answer", "position A", "missing"];
  const cases: [Vote[], string | null, string | null][] = [
    [[f!], "first", "first"],
    [[p!], null, null],
    [[f!, f!], "first", "first"],
    [[f!, s!], null, null],
    [[f!, p!], null, null],
    [[s!, s!, f!], "second", null],
    [[f!, f!, m!], "first", null],
    [[f!, p!, m!], null, null],
    [[f!, f!, s!, s!], null, null],
  ];
  for (const [votes, majority, all] of cases) {
    expect(juryVerdict(votes, "majority")).toBe(majority);
    expect(juryVerdict(votes, "all")).toBe(all);
  }
});

it("of several answers the best is chosen, and the worst of those that it beats rejected", () => {
  const over = (winner: number, loser: number) => ({ winner, loser });
  expect(bestAndWorst(2, [over(1, 0)])).toEqual(over(1, 0));
  expect(bestAndWorst(2, [])).toBeNull();
  expect(bestAndWorst(3, [over(0, 1), over(0, 2), over(1, 2)])).toEqual(over(0, 2));
  expect(bestAndWorst(3, [over(0, 1), over(1, 2), over(2, 0)])).toBeNull();
  expect(bestAndWorst(3, [over(2, 0), over(2, 1)])).toEqual(over(2, 0));
  expect(bestAndWorst(3, [over(0, 2), over(1, 2)])).toBeNull();
  expect(bestAndWorst(4, [over(0, 1), over(0, 2), over(3, 2)])).toEqual(over(0, 2));
});

describe("kappa", () => {
  it("is Cohen's: 20 of 50 yes by both, 15 no by both, 5 and 10 by one alone", () => {
    const ratings = [
      ...Array(20).fill(["yes", "yes"]),
      ...Array(5).fill(["yes", "no"]),
      ...Array(10).fill(["no", "yes"]),
      ...Array(15).fill(["no", "no"]),
    ] as [string, string][];
    expect(
      cohenKappa(
        ratings.map(([first]) => first),
        ratings.map(([, second]) => second),
      ),
    ).toBeCloseTo(0.4, 12);
  });

  it("is Fleiss': 14 raters on 10 subjects in 5 categories, the example of the literature", () => {
    const counts = [
      [0, 0, 0, 0, 14],
      [0, 2, 6, 4, 2],
      [0, 0, 3, 5, 6],
      [0, 3, 9, 2, 0],
      [2, 2, 8, 1, 1],
      [7, 7, 0, 0, 0],
      [3, 2, 6, 3, 0],
      [2, 5, 3, 2, 2],
      [6, 5, 2, 1, 0],
      [0, 2, 2, 3, 7],
    ];
    const ratings = counts.map((item) => item.flatMap((count, category) => Array<number>(count).fill(category)));
    expect(fleissKappa(ratings)).toBeCloseTo(0.20993, 5);
  });

  it("is 1 for full agreement, below 0 for less than chance, and not defined where all is the same", () => {
    expect(cohenKappa(["a", "b"], ["a", "b"])).toBe(1);
    expect(cohenKappa(["a", "b"], ["b", "a"])).toBe(-1);
    expect(cohenKappa(["a", "a"], ["a", "a"])).toBeNull();
    expect(cohenKappa([], [])).toBeNull();
    expect(
      fleissKappa([
        ["a", "a", "a"],
        ["b", "b", "b"],
      ]),
    ).toBe(1);
    expect(fleissKappa([])).toBeNull();
    expect(fleissKappa([["a"], ["b"]])).toBeNull();
  });
});

it("a judge's statistics are shares of the pairs that have both verdicts", () => {
  const votes: Vote[] = [
    "first answer",
    "first answer",
    "second answer",
    "position A",
    "position A",
    "position B",
    "missing",
  ];
  const pairs = votes.map((vote, i) => ({ votes: [vote], isLabelled: i < 3 }));
  expect(judgeStatistics(pairs, 0)).toEqual({
    pairs: 7,
    missing: 1,
    consistentShare: 3 / 6,
    positionAShare: 2 / 6,
    positionBShare: 1 / 6,
    labelAgreement: 2 / 3,
  });
  expect(disagreement([{ votes: ["position A", "position B"] }, { votes: ["first answer", "missing"] }])).toEqual({
    pairs: 1,
    unanimousShare: 0,
    kappa: null,
  });
});
