import { describe, expect, it } from "vitest";
import { answersJsonl, type Evaluation, evaluationJson } from "../../src/evaluation/evaluation.ts";
import { summarize } from "../../src/evaluation/summary.ts";
import { renderEvaluation } from "../../src/report/eval-page.ts";
import { compareGroups } from "../../src/style/compare-groups.ts";
import { accessibilityFaults } from "../report/axe.ts";
import { CHROMIUM, openPage, startChromium } from "../report/chromium.ts";

const HOSTILE = '</script><img src=x onerror="alert(1)">\u001b[2J\u202e🦙';

function evaluationOf(
  answers: readonly (readonly [base: string, trained: string])[],
  more: Partial<Evaluation> = {},
): Evaluation {
  const rows = answers.map(([base, trained], i) => ({
    question: `${HOSTILE} ${i}`,
    base: { text: base, isCut: false },
    trained: { text: trained, isCut: true },
    chosen: null,
  }));
  const group = (name: "base" | "trained") => ({
    name,
    texts: rows.map((row) => row[name].text),
    questions: rows.map(({ question }) => question),
  });
  return {
    model: HOSTILE,
    trained: HOSTILE,
    questions: null,
    chosenFrom: "the training pairs",
    ask: { maxNewTokens: 1, temperature: 0, topP: 1, seed: 1 },
    computed: {
      base: [],
      trained: [],
      preference: null,
      device: HOSTILE,
      format: "f32",
      sha256: { base: "", trained: "" },
    },
    heldOutPairs: 0,
    rows,
    style: compareGroups([group("base"), group("trained"), { name: "chosen", texts: [], questions: [] }], 1),
    judging: null,
    ...more,
  };
}

it.each<[string, Evaluation]>([
  ["no question", evaluationOf([])],
  [
    "empty answers",
    evaluationOf([
      ["", ""],
      ["", ""],
    ]),
  ],
  [
    "identical answers",
    evaluationOf([
      ["a b", "a b"],
      ["c", "c"],
    ]),
  ],
  [
    "hostile answers",
    evaluationOf([
      [HOSTILE, "<b>"],
      ["你好 🦙", HOSTILE],
    ]),
  ],
])("of %s there is a page without markup of others, and JSON without holes", (_, evaluation) => {
  const page = renderEvaluation(evaluation);
  expect(page).not.toContain("<img");
  for (const acting of ["\u001b", "\u202e"]) expect(page).not.toContain(acting);
  expect(page).not.toMatch(/>(NaN|undefined|null|Infinity)</);
  const json = evaluationJson(evaluation);
  expect(JSON.parse(JSON.stringify(json))).toEqual(json);
  expect(summarize(evaluation).join("\n")).not.toMatch(/NaN|undefined|null|Infinity/);
  const lines = answersJsonl(evaluation)
    .split("\n")
    .filter((line) => line !== "");
  expect(lines.map((line) => (JSON.parse(line) as { question: string }).question)).toEqual(
    evaluation.rows.map(({ question }) => question),
  );
});

it("says what a page of identical and of empty answers must say", () => {
  expect(renderEvaluation(evaluationOf([["same", "same"]]))).toContain("the same");
  expect(renderEvaluation(evaluationOf([["", "x"]]))).toContain("nothing");
  expect(summarize(evaluationOf([["same", "same"]])).join("\n")).toContain("1 answered alike by both");
});

it("shows what judges say, and who has no score", () => {
  const estimate = { mean: 2, count: 2, interval: [1.5, 2.5] as const };
  const criterion = { base: estimate, trained: estimate, difference: null };
  const verdict = {
    judge: "<judge>",
    accuracy: criterion,
    style: criterion,
    unscored: 1,
    scores: [{ base: { accuracy: 3, style: 1 }, trained: null }],
  };
  const tally = {} as NonNullable<Evaluation["judging"]>["tally"];
  const evaluation = evaluationOf([["a", "b"]], { judging: { temperature: 0, verdicts: [verdict], tally } });
  const page = renderEvaluation(evaluation);
  expect(page).toContain("Scores by &lt;judge&gt;");
  expect(page).toContain("2.00 (1.50 to 2.50)");
  expect(page).toContain("accuracy 3, style 1");
  expect(page).toContain("no score");
  expect(JSON.parse(answersJsonl(evaluation)).scores).toEqual([
    { judge: "<judge>", base: { accuracy: 3, style: 1 }, trained: null },
  ]);
});

it("shows the first answers of very many, and says so", () => {
  const many = evaluationOf(Array.from({ length: 230 }, (_, i) => [`a${i}`, `b${i}`] as const));
  const page = renderEvaluation(many);
  expect(page).toContain("The first 200 of 230");
  expect(page.match(/<details/g)).toHaveLength(200);
});

describe.skipIf(!CHROMIUM)("in Chromium the page", () => {
  it.each(["light", "dark"] as const)("is without faults, axe's too, in %s", async (colorScheme) => {
    const browser = await startChromium();
    try {
      const evaluation = evaluationOf([
        [HOSTILE, "A trained answer."],
        ["", "Words, words, more words."],
      ]);
      const { page, faults } = await openPage(browser, renderEvaluation(evaluation), { colorScheme });
      expect(await accessibilityFaults(page)).toEqual([]);
      expect(await page.locator("main img").count()).toBe(0);
      expect(faults).toEqual([]);
    } finally {
      await browser.close();
    }
  });
});
